"""The benchmark `recall`: a fact told once must be found again, at lengths never trained."""
