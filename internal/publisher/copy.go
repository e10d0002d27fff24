package publisher

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
)

// A ledgerCopy is the publisher's own copy of the ledger: one line per entry, "<sequence> <stamp> <payload>", append-only and not
// fsynced. It is written as entries are read back from the bus, and is what the bus's ledger is compared with.
type ledgerCopy struct {
	file *os.File
	last uint64
}

// openCopy opens the copy and hands over every whole entry in it. A torn last line, which a crash leaves, is cut off.
func openCopy(path string, fn func(bus.Stored) error) (*ledgerCopy, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the copy of the ledger: %w", err)
	}
	c := &ledgerCopy{file: file}
	whole, err := c.load(fn)
	if err == nil {
		err = file.Truncate(whole)
	}
	if err == nil {
		_, err = file.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return c, nil
}

func (c *ledgerCopy) load(fn func(bus.Stored) error) (whole int64, err error) {
	r := bufio.NewReaderSize(c.file, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return whole, nil
		}
		if err != nil {
			return 0, err
		}
		stored, err := parseCopied(line)
		if err != nil || stored.Sequence != c.last+1 {
			return 0, fmt.Errorf("the copy of the ledger is damaged after entry %d (%w): move it away, and it is made anew from the bus", c.last, errors.Join(err, errNotNext))
		}
		if err := fn(stored); err != nil {
			return 0, err
		}
		c.last, whole = stored.Sequence, whole+int64(len(line))
	}
}

var errNotNext = errors.New("the next line is not the next entry")

func parseCopied(line []byte) (bus.Stored, error) {
	fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 3)
	if len(fields) != 3 {
		return bus.Stored{}, errors.New("not three fields")
	}
	sequence, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return bus.Stored{}, err
	}
	stamp, err := time.Parse(time.RFC3339Nano, string(fields[1]))
	return bus.Stored{Sequence: sequence, Stamp: stamp, Payload: fields[2]}, err
}

// add appends the next entry.
func (c *ledgerCopy) add(s bus.Stored) error {
	line := strconv.AppendUint(nil, s.Sequence, 10)
	line = append(append(line, ' '), s.Stamp.UTC().Format(time.RFC3339Nano)...)
	line = append(append(append(line, ' '), s.Payload...), '\n')
	if _, err := c.file.Write(line); err != nil {
		return fmt.Errorf("write the copy of the ledger: %w", err)
	}
	c.last = s.Sequence
	return nil
}
