"""The logging that all modules share: JSON or text without secrets, context, keyword fields, levels, queue, files.

from p8fs_cluster.logging import get_logger
"""

from p8fs_cluster.logging.context import carried, log_context
from p8fs_cluster.logging.loggers import FieldLogger, get_logger

__all__ = ["FieldLogger", "carried", "get_logger", "log_context"]
