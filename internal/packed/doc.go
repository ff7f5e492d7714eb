// Package packed is the codec of packed batches: the form in which scans hand records to functions and to
// the wire.
//
// A batch is a concatenation of records, little endian, without padding, header or count:
//
//	u16 keyLen | u16 flags | u32 valueLen | u64 timestamp | [u64 expires] | key | value
//
// expires stands there only when bit 0 of flags is set; no other bit is in use, and a set one is refused,
// so that a reader never mistakes a newer format for this one. Every record has exactly one encoding.
// Keys are stored without the first bytes of their global key that all keys of the batch share; how many
// those are is agreed beside the batch, never in it. The empty batch is valid and holds no record.
//
// Guarantees: a Reader never reads outside its batch, never allocates, and never copies; whatever the
// bytes are, it yields whole records up to the first damage and then says where that is (*FormatError).
//
// It never checks the limits on keys and values (package keys does), never orders or deduplicates
// records, and never carries a checksum: frames and files around it do.
//
// Start with Append and Reader.
package packed
