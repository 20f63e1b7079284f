"""Tasks: what a model answers, and how it learns to. All other code is the same for every task.

base                  the contract of a task
classification        the parts of tasks with one label
text_classification   a text in, one label out: networks and estimators
audio_classification  the same from a waveform
recognition           the parts of tasks of transcripts
speech_recognition    a transcript from a waveform, by an encoder and a decoder
predicting            the answers of a model, for all callers
saved                 a saved run opened again
teacher               a trained run as the teacher of a small network
"""
