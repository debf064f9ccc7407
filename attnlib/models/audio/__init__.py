"""Sound for the models that hear: files, sampling rates, and what a network is given of them."""

from attnlib.models.audio.audio_file import SAMPLE_RATE, check_audio, read_audio
from attnlib.models.audio.log_mel import LogMel
from attnlib.models.audio.resample import resample

__all__ = ["SAMPLE_RATE", "LogMel", "check_audio", "read_audio", "resample"]
