// Package bus is Lockstep on NATS JetStream: the ledger's appends, the releases and their way to the agents, acks, beats and
// pulses, and the lease that decides which publisher works. Nothing outside this directory knows NATS.
//
// Guarantees (ARCHITECTURE.md, Bus): an append or a release whose answer was lost is settled by reading, never by sending again
// in hope; a ledger that is holed, cut or made anew under a reader is an error, not a gap; a Feed hands out an environment's
// releases in order, without a gap, a double or a message that the publisher did not sign, whatever the bus delivers.
//
// An agent needs these rights on a server that grants rights in one account for all, and no others:
//
//	publish    $JS.API.DIRECT.GET.RELEASES.lockstep.release.<environment>
//	           $JS.API.CONSUMER.CREATE.RELEASES.*.lockstep.release.<environment>
//	           $JS.API.CONSUMER.MSG.NEXT.RELEASES.*
//	           $JS.API.CONSUMER.DELETE.RELEASES.*
//	           lockstep.ack.<environment>.<agent>, lockstep.beat.<environment>.<agent>
//	subscribe  lockstep.live.<environment>, lockstep.pulse, _INBOX_<name>.>
//
// Such rights do not keep an agent from writing to other subjects: it names them where an answer is to go, or where a consumer of its own is
// to deliver. Package credentials makes accounts that do.
//
// It is not for decisions: what is released, whether an ack counts and who may sign is decided elsewhere, on the payloads that
// pass through here unchanged.
package bus
