"""Grammars: the sentences that a device knows, with their labels and slots. docs/grammar.md describes the files.

reading      a file or directory of files, in our form, Rhino's or Rasa's
collected    what several files have together
rasa         the training data of Rasa's NLU as a grammar
grammar      a grammar: parse, count, and without some of it
soundness    what makes a grammar unusable
expressions  an expression as a tree
automaton    the states from word to word
parsing      what a text means
text         texts as words that are compared
numbers      numbers in words and in digits
sampling     sentences drawn from a grammar
checks       what is likely wrong with a grammar
writing      a grammar in our form
"""
