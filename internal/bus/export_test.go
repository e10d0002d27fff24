package bus

import "time"

// Led is what decides whether an answer about a stream is believed.
var Led = led

// PretendUnanswered lets a connection be one whose questions were not answered for long enough to leave its server.
func (c *Conn) PretendUnanswered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.unanswered = time.Now().Add(-moveAfter - time.Second)
}

// PretendSeen is a look at the stream, begun now, that found a head.
func (f *Feed) PretendSeen(head uint64) { f.checkedAt(time.Now(), f.Position(), head) }
