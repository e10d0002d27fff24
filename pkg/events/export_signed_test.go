package events

// SignMessage signs a payload as a statement, whatever it holds.
func (s *Signer) SignMessage(payload []byte) string { return s.dsse(StatementType, payload) }
