"""Problems that models are judged on, found in a corpus."""
