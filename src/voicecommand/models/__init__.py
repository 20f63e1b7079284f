"""Networks and estimators. Importing this package registers our own networks with transformers' Auto classes.

bcresnet        BC-ResNet, written here
pretrained      loading of pretrained checkpoints
families        the differences between families of speech encoders
front           from a batch of waveforms to a network's inputs, on the device
recogniser      networks of encoder and decoder that write down speech
joining         clips that are longer than a recogniser's window
confined        the tokens that a recogniser may write if it knows a grammar
confined_ctc    the same from the frames of a network with a CTC head
head_start      a head that starts from the features of the frozen network
tuning          which parameters are trained, and their learning rates
embeddings      an embedding that trains only the rows of tokens in train
tokens          tokenizers, and texts as token ids
estimator       features and a linear support vector machine
text_features   TF-IDF; the mean token vector of an encoder
audio_features  MFCC statistics; the frames of a speech encoder
vector_cache    vectors of clips on disk
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
