"""Training of a model.

fit          encode, build the trainer, train
trainer      transformers.Trainer with exact global batches
batches      batches of similar lengths, the same for any number of ranks
losses       the loss of a step, with class weights and a teacher
save         the trained model as stock libraries open it
length       the length of a training, which follows the data
folds        cross-validation, a fit for each fold
unknown      text that the model does not know
space        the room on the disk that a training needs
checkpoints  the state of callbacks, and one more checkpoint after a signal
resuming     where a training goes on
finite       a stop at NaN and infinity, and advice on a loss that ended at chance
progress     the progress bar and a line for each evaluation
"""
