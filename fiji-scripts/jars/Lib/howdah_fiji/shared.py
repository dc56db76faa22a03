"""Images and tables in the shared memory of Howdah's worker: filled and read in bulk, a plane at a time.

The worker makes the blocks and frees them (see howdah.service.shared); here they are only attached and let go.
"""

from jarray import zeros
from java.nio import ByteOrder

from howdah_fiji import images, tables
from howdah_fiji.problems import FAULT, Problem


class Room(object):
    """Blocks of shared memory as one run of bytes; each is an NDArray of Appose.

    Args:
        blocks: What the worker sent: {"0": NDArray, "1": NDArray ...}.
    """

    def __init__(self, blocks):
        self.arrays = [blocks[key] for key in sorted(blocks, key=int)]
        self.buffers = [array.buffer() for array in self.arrays]
        self.current = 0

    def names(self):
        """Return the names of the blocks, as the worker knows them."""
        return [array.shm().name() for array in self.arrays]

    def take(self, size):
        """Return a little-endian ByteBuffer of the next bytes of the memory itself."""
        while self.current < len(self.buffers) and not self.buffers[self.current].hasRemaining():
            self.current += 1
        if self.current == len(self.buffers) or self.buffers[self.current].remaining() < size:
            raise Problem("The worker's shared memory is smaller than the image that goes through it.", FAULT)
        buffer = self.buffers[self.current]
        part = buffer.slice()
        part.limit(size)
        buffer.position(buffer.position() + size)
        return part.order(ByteOrder.LITTLE_ENDIAN)

    def put(self, data):
        """Write a Java byte array behind what was written before."""
        self.take(len(data)).put(data)

    def get(self, data):
        """Fill a Java byte array from what was not read yet."""
        self.take(len(data)).get(data)

    def close(self):
        """Let go of the memory; nothing may touch it afterwards."""
        self.buffers = []
        for array in self.arrays:
            array.close()
        self.arrays = []


def put_image(imp, header, room):
    """Copy the planes of an ImagePlus into blocks."""
    images.put_planes(imp, header, room.take)


def image_from(title, message, room):
    """Build an ImagePlus from blocks; message holds its header."""
    return images.image_from(title, message["header"], room.take)


def table_from(message, room):
    """Return the columns of a table in a block as Java arrays."""
    data = zeros(sum(buffer.remaining() for buffer in room.buffers), "b")
    if len(data):
        room.get(data)
    return tables.unpacked(message["header"], data)
