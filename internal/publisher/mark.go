package publisher

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A mark says how far a publisher has checked its own copy of the ledger. It stands beside the copy, signed with the publisher's key. Where
// the copy begins with the very bytes that it names, a start reads these without checking again what agents signed (ledger.RereadEntry). A mark
// that does not fit, for whatever reason, is none: everything is checked. It is not fsynced, and one that is lost costs time only.
type mark struct {
	Entry   uint64        `json:"entry"`   // the last one that is checked
	Size    int64         `json:"size"`    // where it ends in the copy
	Digest  events.Digest `json:"digest"`  // of the copy up to there, stamps included
	Program string        `json:"program"` // version of the program that checked: another one may check more
	sum     hash.Hash     // over that many bytes of the copy
}

// unmarked is the mark of a copy of which nothing counts as checked.
func unmarked() mark { return mark{sum: sha256.New()} }

func (c *ledgerCopy) markPath() string { return c.file.Name() + ".checked" }

// checked is the mark beside the copy, where it is believed.
func (c *ledgerCopy) checked() mark {
	if c.signer == nil {
		return unmarked()
	}
	b, err := os.ReadFile(c.markPath())
	if err != nil {
		return unmarked()
	}
	m := unmarked()
	payload, signature, _ := bytes.Cut(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	if events.Verify(events.DomainMark, payload, string(signature), c.signer.Public()) != nil || events.DecodeStrict(payload, &m) != nil {
		return unmarked()
	}
	n, err := io.Copy(m.sum, io.NewSectionReader(c.file, 0, m.Size))
	if err != nil || n != m.Size || events.Digest(m.sum.Sum(nil)) != m.Digest || m.Program != telemetry.Version() {
		return unmarked()
	}
	return m
}

// mark says that everything in the copy is checked.
func (b *book) mark() error {
	b.commit.Lock()
	c := b.copy
	m := mark{Entry: c.last, Size: c.size, Digest: events.Digest(c.sum.Sum(nil)), Program: telemetry.Version()}
	known := c.signer == nil || c.last == c.marked
	c.marked = c.last
	b.commit.Unlock()
	if known {
		return nil
	}
	payload, err := events.Encode(m)
	if err != nil {
		return err
	}
	signature, err := c.signer.Sign(events.DomainMark, payload)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(c.markPath(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = c.fault.Write(fault.CopyMarked, file, fmt.Appendf(payload, "\n%s\n", signature))
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("mark how far the copy of the ledger is checked: %w", err)
	}
	return nil
}
