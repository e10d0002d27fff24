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
