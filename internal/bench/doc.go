// Package bench measures how fast changes propagate, and in the same run and process the floor: what any implementation of the
// design has to do on this machine, made of bare parts. Product and floor alternate round by round, because disks are noisy, and
// their medians are compared.
//
// # Propagation
//
// The product is a publisher with an embedded bus on its data directory, and agents, each with an environment, a TCP connection, a
// state directory and a JSON file of its own. The clock runs from the approve call to the moment that the last agent's ack is in the
// fleet view, and that view has been built.
//
// The floor has an embedded bus of its own with the same streams and settings, and as many bare subscribers, with TCP connections and
// directories on the same disks. A round of it is, and is nothing else than:
//
//   - every release is encoded (encoding/json, one struct) and hashed into its environment's chain
//   - one entry that names every release's chain digest is encoded and appended to LEDGER: an fsync
//   - the wave is signed once: a Merkle tree over the chain digests and one Ed25519 signature
//   - the releases are published to RELEASES with the expected sequence of each subject: async, as RELEASES is derived
//   - each subscriber gets its release republished, decodes it (encoding/json into a struct), hashes it into its chain, and checks
//     the signature by the path in the header
//   - it writes its file: temporary file, fsync, rename, fsync of the directory
//   - it makes one bbolt commit of one small record
//   - it encodes an ack (encoding/json), signs it, and publishes it to ACKS
//   - the acks are read from ACKS with one ordered consumer; each signature is checked and each ack decoded
//
// What the floor leaves out, and the product does: deciding by rules, policy and bases; strict reading of what is signed; the inverse
// of every operation; state digests; the pending file; reading the instance before and after; history; deliveries, beats and pulses.
//
// # The others
//
//   - catch-up, folded: one agent applies everything it missed; the floor is a bare ordered consumer that drains the same messages
//     and does nothing with them
//   - catch-up, step by step: one agent applies a part of it revision by revision; the floor is the same number of file replacements
//     (as above) and bbolt commits
//   - idle consumers: what idle agents leave on the server
//   - idle agent: memory and CPU of a real agent process with 1,000 resources that has nothing to do
//   - rebuild: the release stream is deleted; the clock runs until it holds everything again. The floor publishes as many payloads of
//     the same size with one in flight per environment
//   - watched: the way of a change to all agents, while 50 browsers watch and while nobody does, in turns. Each browser looks at one page,
//     every kind of page among them and that of the change under way, and does what the pages' script does: it holds one stream, and
//     fetches the page whenever it is told to. Agents and browsers are processes of their own at the publisher's priority, so that it is
//     also the browsers' time that counts against the publisher where they share its processors. They watch from before the approval
//     until all that agents acknowledged is in the ledger, and each answer's time is taken twice: at the publisher, from when its
//     handler has the request to the last byte, and at the browser, from when it asks to the last byte
//
// It measures; it proves nothing about correctness, and its ratios are no test's business.
package bench
