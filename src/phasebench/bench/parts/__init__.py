"""The benchmark `parts`: what each part of Stage 3 does to perplexity, time and memory."""
