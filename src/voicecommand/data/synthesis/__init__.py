"""Speech made from text.

engines      eSpeak NG, flite and piper
speakers     synthetic speakers and their clips, made once
near_misses  words and phrases that sound similar
words        common English words, and what people say around a command
"""
