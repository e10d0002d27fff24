// Package connector is the contract between an agent and what it configures: next → verify → plan → apply → read back → commit → ack
// (ARCHITECTURE.md, Agent).
//
// A connector holds resources (key → JSON value) in units, each of which changes atomically: a file; everything behind a program. It
// guarantees that Observe and Plan never write, that Apply and Undo are idempotent, and that a unit can be put back after SIGKILL or
// power loss from the JSON of its Unit and the pre-image that Prepare wrote. The agent owns order, retries, the intent and the
// checkpoint; a connector knows neither revisions nor the bus.
//
// Values arrive with their secrets resolved. They are in a Plan's Changes and Stage and in pre-images, never in a Unit or an error.
package connector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
)

// Values are resources by key (<kind>/<name>). A nil value says that the key is to be absent; JSON null is the value null.
type Values map[string]json.RawMessage

// Keys are the keys in order.
func (v Values) Keys() []string { return slices.Sorted(maps.Keys(v)) }

// Atomicity is what a connector can promise about an Apply that is cut short.
type Atomicity string

// The closed set of atomicities.
const (
	Atomic       Atomicity = "atomic"       // one unit: it is there whole or not at all
	Compensating Atomicity = "compensating" // what was done is put back by Undo
	NotAtomic    Atomicity = "none"         // nothing can be promised or proven
)

// Capabilities are what a connector says of itself; they do not change while it is open.
type Capabilities struct {
	Atomicity Atomicity
	Observes  bool // false: acks and screens say "not read back"
	Costly    bool // to observe is more than to read a file: who looks again and again looks rarely
}

// A Unit is one thing that changes atomically. It is safe to store and show: it holds digests and places, never contents.
type Unit struct {
	Connector string `json:"connector"`
	ID        string `json:"id"`
	Before    string `json:"before,omitempty"`   // Digest of what is there before, "" for nothing
	After     string `json:"after,omitempty"`    // Digest of what is there after
	PreImage  string `json:"preImage,omitempty"` // the file that Prepare wrote; "" before it, or when there was nothing
}

// A Change is what a plan changes, for display; the caller redacts the values of secret keys.
type Change struct {
	Key           string          // "" for something that no resource names, removed from what the connector owns whole; shown without value
	Place         string          // where in the instance, such as "flags.json /flags/checkout"
	Before, After json.RawMessage // in canonical form, nil for absent
}

// A Plan is what Apply would do. It is valid while the process lives and the units hold their before-images.
type Plan struct {
	Units   []Unit
	Changes []Change
	Stage   any // the connector's own; it holds resolved values: never store, print or log it
}

// A Connector holds the resources of one instance or of a part of it. Its methods are called by one goroutine at a time. Errors wrap
// *Error.
type Connector interface {
	Name() string
	Capabilities() Capabilities

	// Observe returns what the instance holds of the keys of want, in canonical JSON (RFC 8785); an absent key is not in the map. What
	// JSON cannot hold is reported as {"unreadable": text}, which equals nothing that can be wanted. Where two keys have one place in
	// the instance, what is there belongs to the one that is not to go. It never writes.
	Observe(ctx context.Context, want Values) (Values, error)

	// Normal returns the form in which Observe reports the value once it is applied (a dotenv file makes text of everything). A
	// value or key that the instance cannot hold is a permanent error with ReasonValueUnsupported.
	Normal(key string, value json.RawMessage) (json.RawMessage, error)

	// Plan returns what would change so that the instance holds want: the whole target, that is every key routed to the
	// connector, with nil for each that is to go. What want does not name is left, except where the connector is configured to own
	// it. No units: nothing to do. It never writes.
	Plan(ctx context.Context, want Values) (Plan, error)

	// Prepare writes the pre-images of the plan's units into dir (0700, files 0600, fsynced) and notes in the units where, so that
	// Undo works in another process. It is needed only before an Apply of which a part may survive a crash.
	Prepare(ctx context.Context, plan *Plan, dir string) error

	// Apply makes the units hold their after-images. After an error the instance may be in between: the caller calls Undo. Where a unit
	// holds neither image any more, nothing is touched: an error that wraps ErrForeign, after which there is nothing to undo.
	Apply(ctx context.Context, plan Plan) error

	// Undo puts back every unit that holds its after-image, or was left between by a failed Apply, from memory in the process that
	// applied it, else from its pre-image. A unit that holds its before-image is left. A unit that holds anything else is left, and the
	// error wraps ErrForeign; the other units are put back all the same.
	Undo(ctx context.Context, units []Unit) error
}

// A Replaceable connector configures what stands in a place, and notices when another instance is put there: a directory that is moved
// away, a symlink that leads elsewhere now. From then on Observe, Plan and Apply fail, and Undo works on the instance that it leaves,
// until Reopen.
type Replaceable interface {
	Connector

	// Replaced says whether the place holds another instance than the one that is open, or none.
	Replaced() bool

	// Reopen leaves the instance that is open for the one that is in its place. Where there is none it is a transient error.
	Reopen() error
}

// Digest is the digest of an image in a Unit: SHA-256 in hexadecimal.
func Digest(image []byte) string {
	sum := sha256.Sum256(image)
	return hex.EncodeToString(sum[:])
}
