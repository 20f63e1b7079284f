"""Speech made from text.

engines      eSpeak NG, flite and piper
speakers     synthetic speakers and what they say, made once
near_misses  words that sound alike
words        common English words, and the corpus files
"""
