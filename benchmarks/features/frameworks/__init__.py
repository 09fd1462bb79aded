"""The features of the contenders' integrations with FastAPI, Flask and Celery."""
