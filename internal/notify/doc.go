// Package notify decides who is told of what is wrong with the fleet: rules over the fleet view, episodes, silences, and what is still to
// be sent to whom.
//
// Guarantees: it is a function of its arguments, time included, and of a State that its owner keeps durably. An episode has one id from
// its beginning to its end. What is to be sent stays in the State until its receiver took it, or until it is given up and shown as a dead
// letter; so whoever writes the State down before and after each sending sends at least once, always under the same id, and twice only
// where a crash came between sending and writing down. What people say of alarms, who takes care and what is silenced, is in the ledger.
//
// It is not for sending: internal/webhook does that, and internal/publisher brings both together.
package notify
