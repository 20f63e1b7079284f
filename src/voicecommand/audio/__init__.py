"""Audio, from files to features: numpy and torch, nothing of transformers but its mel filters.

decode        files to waveforms, after checking them
containers    checks of a file's structure before it is decoded
forms         files by their names: recordings that are read, others, and files of the system
clips         waveforms of a prepared split as views; int16 and float
windows       windows of long clips, and the collator of batches
features      log-mel features in batches, on the device
effects       noise, filters, clipping and masks on batches
noise         noise, made or read from recordings
augmentation  random changes to training examples: their draws and their effects
mfcc          the features of the traditional model
"""
