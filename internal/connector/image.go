package connector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// SavePreImage writes a pre-image to dir/name, creating dir (0700) and the file (0600), and syncs both. It returns the path for
// Unit.PreImage.
func SavePreImage(dir, name string, image []byte, h fault.Hook) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", Failed(ReasonWriteFailed, err)
	}
	path := filepath.Join(dir, name)
	if err := writeSynced(path, image, h); err != nil {
		return "", Failed(ReasonWriteFailed, fmt.Errorf("pre-image: %w", err))
	}
	if err := syncDir(dir); err != nil {
		return "", Failed(ReasonWriteFailed, fmt.Errorf("pre-image: %w", err))
	}
	return path, nil
}

func writeSynced(path string, data []byte, h fault.Hook) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // a second Close after a good one does no harm
	if err := h.Write(fault.PreImageSaved, f, data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A ValuesImage is the before-image of a unit that consists of values, with what is needed to tell ours from foreign afterwards. It
// serves connectors whose instance is not made of files.
type ValuesImage map[string]KeyImage

// A KeyImage is one key of a ValuesImage.
type KeyImage struct {
	Before json.RawMessage `json:"before,omitempty"` // absent when nil
	After  string          `json:"after,omitempty"`  // Digest of the value after, "" for absent
}

// NewValuesImage is the image of a change from before to after, two Values with the same keys in canonical form.
func NewValuesImage(before, after Values) ValuesImage {
	image := make(ValuesImage, len(after))
	for k, v := range after {
		image[k] = KeyImage{Before: before[k], After: valueDigest(v)}
	}
	return image
}

func valueDigest(v json.RawMessage) string {
	if v == nil {
		return ""
	}
	return Digest(v)
}

// Keys are the unit's keys in order.
func (i ValuesImage) Keys() []string {
	keys := make([]string, 0, len(i))
	for k := range i {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Unit is the image's Unit.
func (i ValuesImage) Unit(connector, id string) Unit {
	var before, after strings.Builder
	for _, k := range i.Keys() {
		fmt.Fprintf(&before, "%s %s\n", k, valueDigest(i[k].Before))
		fmt.Fprintf(&after, "%s %s\n", k, i[k].After)
	}
	return Unit{Connector: connector, ID: id, Before: Digest([]byte(before.String())), After: Digest([]byte(after.String()))}
}

// Save writes the image into dir and notes it in its unit.
func (i ValuesImage) Save(dir string, u *Unit, h fault.Hook) error {
	b, err := json.Marshal(i)
	if err != nil {
		return Permanent(ReasonWriteFailed, "pre-image: %w", err)
	}
	u.PreImage, err = SavePreImage(dir, u.Connector+".pre", b, h)
	return err
}

// LoadValuesImage reads back what Save wrote and checks that it belongs to the unit.
func LoadValuesImage(u Unit) (ValuesImage, error) {
	b, err := ReadPreImage(u)
	if err != nil {
		return nil, err
	}
	var i ValuesImage
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, Permanent(ReasonPreImageLost, "the pre-image %s is damaged", u.PreImage)
	}
	if own := i.Unit(u.Connector, u.ID); own.Before != u.Before || own.After != u.After {
		return nil, Permanent(ReasonPreImageLost, "the pre-image %s belongs to another change", u.PreImage)
	}
	return i, nil
}

// ReadPreImage reads the unit's pre-image as it was saved.
func ReadPreImage(u Unit) ([]byte, error) {
	if u.PreImage == "" {
		return nil, Permanent(ReasonPreImageLost, "%s of connector %s has no pre-image: nothing can be proven", u.ID, u.Connector)
	}
	b, err := os.ReadFile(u.PreImage)
	if err != nil {
		return nil, Permanent(ReasonPreImageLost, "the pre-image of %s: %w", u.ID, err)
	}
	return b, nil
}

// Back returns what must be applied so that the instance, which holds held, holds the before-image again. Each key must hold its
// value before or after; others are an error that wraps ErrForeign and names them.
func (i ValuesImage) Back(held Values) (Values, error) {
	back := Values{}
	var foreign []string
	for _, k := range i.Keys() {
		switch now := held[k]; {
		case bytes.Equal(now, i[k].Before) && (now == nil) == (i[k].Before == nil):
		case valueDigest(now) == i[k].After:
			back[k] = i[k].Before
		default:
			foreign = append(foreign, k)
		}
	}
	if foreign != nil {
		return nil, Permanent(ReasonForeignChange, "%w: %s", ErrForeign, strings.Join(foreign, ", "))
	}
	return back, nil
}

// Differing returns the keys of want whose values are not what held holds, as the before and after of a change.
func Differing(held, want Values) (before, after Values) {
	before, after = Values{}, Values{}
	for k, v := range want {
		if !bytes.Equal(held[k], v) {
			before[k], after[k] = held[k], v
		}
	}
	return before, after
}

// Canonical is a wanted value in canonical JSON. The error names the key and tells nothing of the value.
func Canonical(key string, value json.RawMessage) (json.RawMessage, error) {
	canonical, err := events.Canonical(value)
	if err != nil {
		return nil, Permanent(ReasonValueUnsupported, "%s: not a JSON value that means the same everywhere: keys that stand twice, lone "+
			"surrogates, and numbers that a double cannot keep are refused", key)
	}
	return canonical, nil
}

// NormalValues is c.Normal of every value that is not nil.
func NormalValues(c Connector, want Values) (Values, error) {
	normal := make(Values, len(want))
	for _, k := range want.Keys() {
		v := want[k]
		normal[k] = nil
		if v == nil {
			continue
		}
		var err error
		if normal[k], err = c.Normal(k, v); err != nil {
			return nil, err
		}
	}
	return normal, nil
}
