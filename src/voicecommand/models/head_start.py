"""A classifier whose head starts from its frozen features, for training data with few examples of each label.

A new head of random weights needs hundreds of steps before it is useful, and meanwhile it disturbs the pretrained
layers (Kumar et al., arXiv:2202.10054). Here it starts as logistic regression on what the untrained network makes of
the training texts. The stock head of BERT and its relatives reads the vector of the first token only; the mean over all
tokens is far better as long as nothing is trained (Reimers and Gurevych, arXiv:1908.10084). So these networks get one
more layer of their own kind, which starts as that mean. The saved network is of the stock class, one layer deeper.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from voicecommand.models.families import dense_of_bert

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
# With fewer training examples a label than this (on average), the head starts from frozen features.
FEW = 64
MEAN_SCALE = 30.0  # of the mean over tokens beside the residual, which the norm after it makes negligible
TANH_SCALE = 0.3  # of normed vectors before the tanh, which is nearly linear there
C = 10.0  # inverse strength of the regularisation of the logistic regression, on features of mean length 1


def has_few(examples: int, labels: int) -> bool:
    """Whether `examples` training rows are few for so many labels."""
    return examples < FEW * labels


def add_mean_layer(model: PreTrainedModel) -> bool:
    """Add a layer to a network of BERT's kind, after which the vector of the first token is the normed mean of all
    tokens. Networks of other kinds stay as they are, and the answer is False.

    The query is zero, so the attention is the same for all tokens; value and output are multiples of the identity, and
    the feed-forward part adds zero. All weights of it can be trained from there.
    """
    name = dense_of_bert(model.config)
    if name is None:
        return False
    layers: Any = model.base_model.get_submodule("encoder.layer")
    layer = copy.deepcopy(layers[-1])
    attention = layer.attention
    if hasattr(attention.self, "layer_idx"):
        attention.self.layer_idx = len(layers)
    with torch.no_grad():
        for zero in (attention.self.query, layer.output.dense):
            zero.weight.zero_()
        nn.init.eye_(attention.self.value.weight)
        nn.init.eye_(attention.output.dense.weight).mul_(MEAN_SCALE)
        between = cast(nn.Linear, model.get_submodule(name))
        nn.init.eye_(between.weight).mul_(TANH_SCALE)
        for part in (attention.self.query, attention.self.value, attention.output.dense, layer.output.dense, between):
            part.bias.zero_()
        for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1)
            norm.bias.zero_()
    layers.append(layer)
    model.config.num_hidden_layers = len(layers)
    return True


def fit_head(
    model: PreTrainedModel,
    labels: NDArray[np.int64],
    class_weights: NDArray[np.float32] | None,
    respond: Callable[[], NDArray[np.float32]],
) -> bool:
    """Set the last linear layer to logistic regression on its inputs for the training rows.

    Args:
        labels: `[n]`, from 0 to the number of labels - 1; each occurs.
        class_weights: float32 `[labels]`, or None.
        respond: the network's output for the training rows, `[n, ...]` in their order.

    Returns:
        False if the network does not end in a linear layer with an output for each label; then nothing is changed.
    """
    from sklearn.linear_model import LogisticRegression

    count = int(labels.max()) + 1
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if count < 2 or not linear or linear[-1][1].out_features != count:
        return False
    name, head = linear[-1]
    model.set_submodule(name, nn.Identity())  # the output of the network is now what its last layer reads
    try:
        features = respond()
    finally:
        model.set_submodule(name, head)
    scale = float(np.linalg.norm(features, axis=1).mean())
    weights = None if class_weights is None else dict(enumerate(map(float, class_weights)))
    classifier = LogisticRegression(C=C, max_iter=1000, class_weight=weights, fit_intercept=head.bias is not None)
    classifier.fit(features / scale, labels)
    coefficients, intercepts = classifier.coef_ / scale, classifier.intercept_
    if count == 2:  # scikit-learn keeps one row for two labels; half of it for each gives the same probabilities
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(coefficients))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(intercepts))
    return True
