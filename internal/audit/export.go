package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Format is the first word of an export.
const Format = "ledger export v1"

// A Header begins an export.
type Header struct {
	Lockstep string `json:"lockstep"` // Format
	Ledger   string `json:"ledger"`   // id
	Seal     string `json:"seal"`     // over exactly the entries that follow
}

// An Entry is one of the ledger's, as it was stored.
type Entry struct {
	Stamp time.Time       `json:"stamp"` // the bus's; no signature covers it
	Entry json.RawMessage `json:"entry"`
}

// A Held is what the stream RELEASES holds of a release that these entries made.
type Held struct {
	Environment string        `json:"environment"`
	Revision    uint64        `json:"revision"`
	Payload     events.Digest `json:"payload"` // SHA-256
	Signature   string        `json:"signature"`
}

// An End says how many lines were before it: an export without one was cut.
type End struct {
	Entries  uint64 `json:"entries"`
	Releases uint64 `json:"releases"`
}

// A Writer writes an export: one JSON object a line. Header, entries in their order, releases, end.
type Writer struct {
	w   *bufio.Writer
	end End
}

// NewWriter begins an export of a ledger.
func NewWriter(w io.Writer, ledger, sealed string) (*Writer, error) {
	out := &Writer{w: bufio.NewWriterSize(w, 1<<16)}
	return out, out.line(Header{Format, ledger, sealed})
}

func (w *Writer) line(v any) error {
	b, err := events.Encode(v)
	if err != nil {
		return err
	}
	if _, err := w.w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// Entry adds the next entry, whatever it is: who reads the export finds out.
func (w *Writer) Entry(e Entry) error {
	w.end.Entries++
	stamp, err := events.Encode(e.Stamp)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{beginsEntry, stamp, betweenEntry, e.Entry, []byte("}\n")} {
		if _, err := w.w.Write(part); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
	}
	return nil
}

// Held adds a release.
func (w *Writer) Held(h Held) error {
	w.end.Releases++
	return w.line(h)
}

// Close ends the export.
func (w *Writer) Close() error {
	if err := w.line(w.end); err != nil {
		return err
	}
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// maxLine bounds a line in bytes: an entry has at most 1 MiB.
const maxLine = 4 << 20

// A Reader reads an export strictly: every line is as a Writer writes it.
type Reader struct {
	Header
	lines *bufio.Scanner
	read  End
	last  any // the line after the entries
	n     int
}

// NewReader reads the header of an export.
func NewReader(r io.Reader) (*Reader, error) {
	out := &Reader{lines: bufio.NewScanner(r)}
	out.lines.Buffer(make([]byte, 1<<16), maxLine)
	line, err := out.next()
	if err != nil {
		return nil, err
	}
	if err := events.DecodeStrict(line, &out.Header); err != nil || out.Lockstep != Format {
		return nil, fmt.Errorf("this is no export of a ledger: its first line says %.80q; write one with 'publisher audit export'", line)
	}
	return out, nil
}

func (r *Reader) next() ([]byte, error) {
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return nil, fmt.Errorf("read the export: line %d: %w", r.n+1, err)
		}
		return nil, fmt.Errorf("read the export: it was cut after line %d: %w; export it again, and look at 'publisher doctor' where that does not help", r.n, io.ErrUnexpectedEOF)
	}
	r.n++
	return r.lines.Bytes(), nil
}

var (
	beginsEntry  = []byte(`{"stamp":`)
	betweenEntry = []byte(`,"entry":`)
	beginsHeld   = []byte(`{"environment":`)
)

// Entries hands over every entry, in order.
func (r *Reader) Entries(fn func(Entry) error) error {
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, beginsEntry) {
			r.last = bytes.Clone(line)
			return nil
		}
		e, err := readEntry(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", r.n, err)
		}
		r.read.Entries++
		if err := fn(e); err != nil {
			return err
		}
	}
}

// readEntry reads a line without reading the entry in it, which is done strictly elsewhere.
func readEntry(line []byte) (e Entry, err error) {
	stamp, rest, found := bytes.Cut(line[len(beginsEntry):], betweenEntry)
	if !found || !bytes.HasSuffix(rest, []byte("}")) {
		return e, errors.New("it is no entry with its stamp")
	}
	if err := events.DecodeStrict(stamp, &e.Stamp); err != nil {
		return e, err
	}
	e.Entry = bytes.Clone(rest[:len(rest)-1])
	return e, nil
}

// Releases hands over what the stream held; Entries comes before it. It ends with the end of the export.
func (r *Reader) Releases(fn func(Held) error) error {
	line, _ := r.last.([]byte)
	for ; bytes.HasPrefix(line, beginsHeld); r.read.Releases++ {
		var h Held
		if err := events.DecodeStrict(line, &h); err != nil {
			return fmt.Errorf("line %d: %w", r.n, err)
		}
		if err := fn(h); err != nil {
			return err
		}
		var err error
		if line, err = r.next(); err != nil {
			return err
		}
	}
	var end End
	if err := events.DecodeStrict(line, &end); err != nil {
		return fmt.Errorf("line %d: %w", r.n, err)
	}
	if end != r.read {
		return fmt.Errorf("the export says it has %d entries and %d releases, and has %d and %d", end.Entries, end.Releases, r.read.Entries, r.read.Releases)
	}
	if r.lines.Scan() || r.lines.Err() != nil {
		return fmt.Errorf("line %d: something follows the end", r.n+1)
	}
	return nil
}

// sealed opens the header's seal with the publishers of a trust document, and compares it with a tree.
func (h Header) sealed(tree *seal.Tree, trust *events.Trust) (seal.Head, error) {
	head, err := seal.Open(h.Seal, h.Ledger, trust.Publishers)
	if err != nil {
		return head, err
	}
	if head.Size != tree.Size() {
		return head, events.Errorf(events.ReasonLedgerTruncated, "the seal is over %d entries, and there are %d", head.Size, tree.Size())
	}
	root, err := tree.Root(head.Size)
	if err == nil && root != head.Root {
		err = events.Errorf(events.ReasonLedgerForked, "the entries have the root %s, and %s is sealed", root.Short(), head.Root.Short())
	}
	return head, err
}
