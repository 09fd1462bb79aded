"""The container in web frameworks, command lines, task queues and worker loops: one module each, none imported here."""
