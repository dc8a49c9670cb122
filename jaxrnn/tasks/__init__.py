"""The shapes of problem: thin pieces over cells and layers."""

from jaxrnn.tasks import pooling
from jaxrnn.tasks.classifier import Classifier, ClassifierParams
from jaxrnn.tasks.pooling import AttentionPooling

__all__ = ["AttentionPooling", "Classifier", "ClassifierParams", "pooling"]
