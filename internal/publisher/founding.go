package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// TrustFile holds, in the data directory, the trust document that was prepared for a new ledger. Once that has begun it means nothing
// any more.
const TrustFile = "trust.json"

// openFounding reads the document that was prepared, where the ledger is not known to have begun. It says which ledger that is.
func (p *Publisher) openFounding() error {
	if p.book.number() > 0 {
		return nil
	}
	path := filepath.Join(p.opts.Data, TrustFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prepared trust document: %w", err)
	}
	var document events.Trust
	err = events.DecodeStrict(bytes.TrimSpace(b), &document)
	if err == nil {
		err = document.CheckSuccession(nil)
	}
	if err == nil && !document.AllowsPublisher(p.signer.Public()) {
		err = errors.New("it does not name the key in publisher.key beside it")
	}
	if err != nil {
		return fmt.Errorf("prepared trust document %s: %w; prepare another one with 'publisher trust init --data' in an empty directory", path, err)
	}
	p.founding = &document
	return p.book.load(document.Ledger)
}

// founds says whether this publisher may make the ledger: it has a document for it, and knows of no entry.
func (p *Publisher) founds() bool { return p.founding != nil && p.book.number() == 0 }
