"""results.json: metrics, gates, conditions, environment, schema."""
