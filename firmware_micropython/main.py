"""What a board runs when it gets power; everything else is compiled or frozen."""

from lichen.start import start

start()
