package ledger

import "maps"

// Inside is what the package keeps of a state for itself, in a form that compares.
func (s *State) Inside() map[string]any {
	return map[string]any{"order": s.order[:len(s.order):len(s.order)], "contents": maps.Clone(s.contents), "commands": maps.Clone(s.commands), "waves": maps.Clone(s.waves)}
}
