"""The benchmark `budget`: perplexity over tokens, FLOPs and seconds of training."""
