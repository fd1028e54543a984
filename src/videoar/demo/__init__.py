"""The whole path in minutes, on small models: data, both trainings, samples, and a report that shows them."""
