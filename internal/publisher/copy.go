package publisher

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A ledgerCopy is the publisher's own copy of the ledger: one line per entry, "<sequence> <stamp> <payload>", append-only and not
// fsynced. It is written as entries are read back from the bus, and is what the bus's ledger is compared with.
type ledgerCopy struct {
	file   *os.File
	fault  fault.Hook
	signer *events.Signer // of marks; nil: none is made or believed
	last   uint64         // newest whole entry
	size   int64          // where it ends; what is after it, a torn line, is overwritten
	sum    hash.Hash      // SHA-256 over that
	marked uint64         // the entry of the mark beside it
}

func openCopy(path string) (*ledgerCopy, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the copy of the ledger: %w", err)
	}
	return &ledgerCopy{file: file}, nil
}

// readAhead is how many entries are decoded at once.
var readAhead = 2 * runtime.GOMAXPROCS(0)

// An ahead is a line that is being decoded.
type ahead struct {
	stored bus.Stored
	size   int64
	err    error
	take   chan func() error
}

// load hands over every whole entry in the copy. A torn last line, which a crash leaves, counts as none. Checked ones are those up to a mark
// that is believed: decode is called for several of these at once, for the others one by one, and what it returns in order.
func (c *ledgerCopy) load(m mark, decode func(s bus.Stored, checked bool) (take func() error)) error {
	c.last, c.size, c.sum, c.marked = 0, 0, m.sum, m.Entry
	var queue []ahead
	var decoding sync.WaitGroup
	defer decoding.Wait()
	r := bufio.NewReaderSize(io.NewSectionReader(c.file, 0, 1<<62), 1<<20)
	for offset, whole := int64(0), true; ; {
		for whole && len(queue) < readAhead {
			line, err := r.ReadBytes('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the copy of the ledger: %w", err)
			}
			if whole = err == nil; !whole {
				break
			}
			offset += int64(len(line))
			checked := offset <= m.Size
			if !checked {
				c.sum.Write(line)
			}
			next := ahead{size: int64(len(line)), take: make(chan func() error, 1)}
			next.stored, next.err = parseCopied(line)
			switch {
			case next.err != nil:
			case checked:
				decoding.Go(func() { next.take <- decode(next.stored, true) })
			default:
				next.take <- func() error { return decode(next.stored, false)() }
			}
			queue = append(queue, next)
		}
		if len(queue) == 0 {
			return nil
		}
		next := queue[0]
		queue = queue[1:]
		err := next.err
		if err == nil && next.stored.Sequence != c.last+1 {
			err = errors.New("the next line is not the next entry")
		}
		if err == nil {
			err = (<-next.take)()
		}
		if err != nil {
			return fmt.Errorf("%s is damaged after entry %d: %w: mend it with 'publisher ledger repair --data %s'", c.file.Name(), c.last, err, filepath.Dir(c.file.Name()))
		}
		c.last, c.size = next.stored.Sequence, c.size+next.size
	}
}

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

// add appends the next entry. A failure, a full disk, is ReasonStore; the entry is added when it is read again.
func (c *ledgerCopy) add(s bus.Stored) error {
	line := copiedLine(s)
	if err := c.fault.Write(fault.EntryCopied, io.NewOffsetWriter(c.file, c.size), line); err != nil {
		return events.Errorf(events.ReasonStore, "write the copy of the ledger: %w", err)
	}
	c.last, c.size = s.Sequence, c.size+int64(len(line))
	c.sum.Write(line)
	return nil
}

func copiedLine(s bus.Stored) []byte {
	line := strconv.AppendUint(nil, s.Sequence, 10)
	line = append(append(line, ' '), s.Stamp.UTC().Format(time.RFC3339Nano)...)
	return append(append(append(line, ' '), s.Payload...), '\n')
}

// writeCopy replaces a copy by these entries, whole or not at all.
func writeCopy(path string, entries []bus.Stored, h fault.Hook, p fault.Point) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // readable by its owner only
	if err != nil {
		return fmt.Errorf("write a copy of the ledger: %w", err)
	}
	defer os.Remove(file.Name()) // fails where it was renamed
	var lines []byte
	for _, e := range entries {
		lines = append(lines, copiedLine(e)...)
	}
	err = errors.Join(h.Write(p, file, lines), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write a copy of the ledger: %w", err)
	}
	return nil
}

// syncDirectory lets a rename survive power loss.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
