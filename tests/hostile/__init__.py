"""What a stranger may hand us, by the thousand, and what is right in answer. ``pytest -m hostile`` tries it all."""
