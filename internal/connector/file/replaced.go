package file

import (
	"errors"

	"github.com/lockstep-dev/lockstep/internal/connector"
)

var _ connector.Replaceable = (*Connector)(nil)

// Replaced implements connector.Replaceable. A directory that was left by an Undo and came back is another one too: how that Undo ended
// was not said.
func (c *Connector) Replaced() bool { return c.left || c.disk.here() != nil }

// here refuses to go on in a directory that is not the instance any more.
func (c *Connector) here() error {
	if err := c.disk.here(); err != nil {
		return connector.Transient(connector.ReasonUnreadable, "%w", err)
	}
	return nil
}

// Reopen implements connector.Replaceable. What belongs to the directory before stays behind with it, but for resolved secrets, which go,
// and for a reload that is due, which the application still needs.
func (c *Connector) Reopen() error {
	if c.disk.here() == nil { // it is back
		c.left = false
		return nil
	}
	due, err := c.reload.due()
	if err != nil {
		return err
	}
	next, err := openDisk(c.disk.root.Name(), c.disk.mode, c.disk.holder, c.disk.fault)
	if err != nil {
		return connector.Transient(connector.ReasonUnreadable, "%w", err)
	}
	if due {
		at := reloader{Reload: c.reload.Reload, disk: next, dir: c.reload.dir}
		if err := at.mark(); err != nil {
			return errors.Join(err, next.close())
		}
	}
	c.discard()
	_ = c.disk.close() // nothing was written there since the last sync
	*c.disk, c.before, c.left = *next, map[string]image{}, false
	c.discard()
	return nil
}

// discard removes what a crash, or an apply that was cut short, may have left: it holds resolved secrets.
func (c *Connector) discard() {
	for _, t := range c.targets {
		c.disk.discard(t.Path)
	}
}
