package store

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

type resource struct {
	Value  json.RawMessage `json:"value,omitempty"`
	Setter events.Digest   `json:"setter"`
}

// Environment loads the fold at the checkpoint, or at revision 0 before the first. It hashes the state again and compares it,
// the history and the trust document with the checkpoint: what does not agree is ErrCorrupt.
func (tx *Tx) Environment() (env *fold.Environment, err error) {
	err = guard(tx.tx.DB().Path(), func() error { env, err = tx.environment(); return err })
	return env, err
}

func (tx *Tx) environment() (*fold.Environment, error) {
	id, err := get[Identity](tx, keyIdentity)
	if err != nil {
		return nil, err
	}
	env := fold.New(id.Ledger, id.Environment)
	if err := tx.soundMeta(); err != nil {
		return nil, err
	}
	checkpoint, err := tx.Checkpoint()
	if err != nil {
		return nil, err
	}
	if checkpoint == nil {
		if last, _ := tx.tx.Bucket(bucketHistory).Cursor().Last(); last != nil {
			return nil, tx.corrupt("there is a history but no checkpoint")
		}
		return env, nil
	}
	if env.Trust, err = get[events.Trust](tx, keyTrust); err != nil {
		return nil, err
	}
	released, err := get[time.Time](tx, keyReleased)
	if err != nil {
		return nil, err
	}
	if released != nil {
		env.Released = *released
	}
	err = tx.tx.Bucket(bucketResources).ForEach(func(key, b []byte) error {
		var r resource
		if err := read(key, b, &r); err != nil {
			return tx.corrupt("%s: %w", key, err)
		}
		env.State.Set(string(key), fold.Resource(r))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for r, err := range tx.History(1) {
		if err == nil {
			err = tx.remember(env, &r)
		}
		if err != nil {
			return nil, err
		}
	}
	return env, tx.agree(env, checkpoint)
}

// remember takes one record of the history, which are all of them from the first on, for what the environment accepted.
func (tx *Tx) remember(env *fold.Environment, r *Record) error {
	if r.Revision != env.Revision+1 {
		return tx.corrupt("the history has revision %d behind revision %d", r.Revision, env.Revision)
	}
	env.Revision, env.Chain = r.Revision, r.Chain
	switch r.Kind {
	case events.KindChange:
		env.Accepted[r.Digest] = fold.Accepted{ID: r.Change, Inverse: r.Inverse}
	case events.KindRollback:
		undone, known := env.Accepted[r.Digest]
		if !known {
			return tx.corrupt("the history undoes change %s at revision %d, and does not have it", r.Change, r.Revision)
		}
		undone.Undone = true
		env.Accepted[r.Digest] = undone
	}
	return nil
}

// soundMeta checks the records that nothing else depends on: a hold must not get lost by a flipped bit.
func (tx *Tx) soundMeta() error {
	return tx.tx.Bucket(bucketMeta).ForEach(func(key, record []byte) error {
		if bytes.Equal(key, keySchema) {
			return nil
		}
		if _, err := unseal(key, record); err != nil {
			return tx.corrupt("%q: %w", key, err)
		}
		return nil
	})
}

func (tx *Tx) agree(env *fold.Environment, checkpoint *Checkpoint) error {
	if digest := env.State.Digest(); digest != checkpoint.State {
		return tx.corrupt("the state is %s, the checkpoint at revision %d says %s", digest.Short(), checkpoint.Revision, checkpoint.State.Short())
	}
	if env.Trust == nil {
		return tx.corrupt("there is no trust document at revision %d", checkpoint.Revision)
	}
	if env.Revision != checkpoint.Revision || env.Chain != checkpoint.Chain {
		return tx.corrupt("the history ends at revision %d (%s), the checkpoint is at %d (%s)",
			env.Revision, env.Chain.Short(), checkpoint.Revision, checkpoint.Chain.Short())
	}
	return nil
}

// Advance moves the checkpoint to env, which is the fold after steps, and returns it. The caller says of it when it is, what was
// read back, and the sequence hint. Only what the steps touched is written.
func (tx *Tx) Advance(env *fold.Environment, steps []*fold.Step, c Checkpoint) (Checkpoint, error) {
	c.Revision, c.Chain, c.State = env.Revision, env.Chain, env.State.Digest()
	return c, tx.advance(env, steps, c)
}

func (tx *Tx) advance(env *fold.Environment, steps []*fold.Step, c Checkpoint) error {
	touched := map[string]bool{}
	history := tx.tx.Bucket(bucketHistory)
	history.FillPercent = 1 // it only grows at its end
	for _, s := range steps {
		for _, key := range s.Keys {
			touched[key] = true
		}
		r := recordOf(s, c.At)
		key := number(r.Revision)
		if err := history.Put(key, seal(key, r.encode())); err != nil {
			return err
		}
	}
	for key := range touched {
		if err := tx.writeResource(env, key); err != nil {
			return err
		}
	}
	if err := put(tx, keyTrust, env.Trust); err != nil {
		return err
	}
	if err := put(tx, keyReleased, &env.Released); err != nil {
		return err
	}
	return put(tx, keyCheckpoint, &c)
}

func (tx *Tx) writeResource(env *fold.Environment, key string) error {
	resources := tx.tx.Bucket(bucketResources)
	if r, known := env.State.Get(key); known {
		return write(resources, []byte(key), resource(r))
	}
	return resources.Delete([]byte(key))
}
