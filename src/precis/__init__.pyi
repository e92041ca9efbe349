from .answer import Answer
from .artifact import Artifact
from .compilation.pipeline import compile
from .compilation.progress import Progress
from .compilation.settings import Settings
from .compilation.training import Schedule
from .compiled import Compiled, load
from .errors import PrecisError
from .evaluation.evaluate import evaluate
from .evaluation.report import Report
from .model.language_model import LanguageModel
from .model.loading import load_model
from .model.prefix import Prefix
from .text.document import Document, read
from .text.questions import Question, read_questions

__all__ = [
    "Answer",
    "Artifact",
    "Compiled",
    "Document",
    "LanguageModel",
    "PrecisError",
    "Prefix",
    "Progress",
    "Question",
    "Report",
    "Schedule",
    "Settings",
    "compile",
    "evaluate",
    "load",
    "load_model",
    "read",
    "read_questions",
]
