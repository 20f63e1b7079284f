"""From a model to a trained one.

fit          encode, build the trainer, train
trainer      transformers.Trainer with exact global batches
batches      batches of like length, the same for any number of ranks
losses       the loss with a teacher
save         the trained model in stock form
checkpoints  which checkpoint is complete
progress     what the terminal shows meanwhile
"""
