"""Networks and estimators. Importing this package registers our own networks with transformers' Auto classes.

bcresnet        BC-ResNet, written here
pretrained      weights of others: where they are, how they are loaded
families        what differs between families of speech encoders
front           from a batch of waveforms to a network's inputs, on the device
tuning          which parameters move, and how fast
embeddings      an embedding that trains the rows it needs
tokens          tokenizers, and texts as token ids
estimator       features and a support vector machine, with Trainer's verbs
text_features   TF-IDF; the mean token vector of an encoder
audio_features  MFCC statistics; the frames of a speech encoder
vector_cache    vectors of clips on disk
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
