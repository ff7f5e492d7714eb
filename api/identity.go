package api

// ClientClusterKey is the metadata with which a client names, in every call, the cluster that it is a client of, once it knows. A node
// of another cluster refuses it: an address may be given to somebody else when its node is gone, and ids of ranges, stores and
// keyspaces are the same in all clusters.
const ClientClusterKey = "locus-client-of"
