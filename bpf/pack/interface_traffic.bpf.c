/*
 * Counts packets and bytes that interfaces receive and send, by interface: those of the network
 * namespace that talead runs in, because others have interfaces of the same names. Made with
 * talea.bpf.h, like a user's own object. Loaded and attached by the keeper.
 *
 * It counts where drivers do: what they hand over, before packets are merged (GRO), and what they
 * took, each buffer as one packet, as large as it is (GSO). Bytes are those of the frame, without
 * its checksum; the loopback device's own count leaves the 14 bytes of its header out, and so does
 * this.
 */
#include "talea.bpf.h"

#include <bpf/bpf_core_read.h>
#include <stdbool.h>

#define INTERFACES_MAX	1024
#define ARPHRD_ETHER	1
#define ARPHRD_LOOPBACK 772
#define ETH_HLEN	14

/* Only what is read, as in core.h: libbpf finds the places in the running kernel. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct net_device {
	char name[16];
	unsigned short type;
	struct {
		struct net *net;
	} nd_net;
};

struct sk_buff {
	unsigned int len;
	struct net_device *dev;
};

#pragma clang attribute pop

TALEA_COUNTER_BY(rx_packets, "kernel_network_receive_packets_total",
		 "Packets that interfaces received.", INTERFACES_MAX, TALEA_TEXT(device, 16));
TALEA_COUNTER_BY(rx_bytes, "kernel_network_receive_bytes_total", "Bytes that interfaces received.",
		 INTERFACES_MAX, TALEA_TEXT(device, 16));
TALEA_COUNTER_BY(tx_packets, "kernel_network_transmit_packets_total",
		 "Packets that interfaces sent.", INTERFACES_MAX, TALEA_TEXT(device, 16));
TALEA_COUNTER_BY(tx_bytes, "kernel_network_transmit_bytes_total", "Bytes that interfaces sent.",
		 INTERFACES_MAX, TALEA_TEXT(device, 16));

/* The number of talead's network namespace, set when this is loaded. */
const volatile __u32 netns SEC(".rodata.netns") = 0;

/* A kernel without network namespaces has one, and no field that says so. */
static __always_inline bool is_ours(struct net_device *dev)
{
	return !bpf_core_field_exists(dev->nd_net.net) || dev->nd_net.net->ns.inum == netns;
}

static __always_inline int received(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *dev = skb->dev;
	struct rx_packets_key packets = {};
	struct rx_bytes_key bytes = {};
	__u64 length = skb->len;

	if (!dev || !is_ours(dev))
		return 0;
	/* An Ethernet header has been taken off already. */
	if (dev->type == ARPHRD_ETHER)
		length += ETH_HLEN;
	bpf_probe_read_kernel_str(packets.device, sizeof(packets.device), &dev->name);
	__builtin_memcpy(bytes.device, packets.device, sizeof(bytes.device));
	talea_count_by(&rx_packets, &packets, 1);
	talea_count_by(&rx_bytes, &bytes, length);
	return 0;
}

/* The five ways in which a driver hands packets over, each of which tells once of each packet. */
SEC("tp_btf/napi_gro_receive_entry")
int merging(__u64 *ctx)
{
	return received(ctx);
}

SEC("tp_btf/napi_gro_frags_entry")
int merging_frags(__u64 *ctx)
{
	return received(ctx);
}

SEC("tp_btf/netif_receive_skb_entry")
int at_once(__u64 *ctx)
{
	return received(ctx);
}

SEC("tp_btf/netif_receive_skb_list_entry")
int in_a_list(__u64 *ctx)
{
	return received(ctx);
}

SEC("tp_btf/netif_rx_entry")
int later(__u64 *ctx)
{
	return received(ctx);
}

/* Behind the driver: what it was too busy to take comes again. The buffer may be gone already. */
SEC("tp_btf/net_dev_xmit")
int sent(__u64 *ctx)
{
	struct net_device *dev = (void *)ctx[2];
	struct tx_packets_key packets = {};
	struct tx_bytes_key bytes = {};
	__u64 length = (__u32)ctx[3];

	if ((int)ctx[1] != 0 || !is_ours(dev))
		return 0;
	if (dev->type == ARPHRD_LOOPBACK)
		length -= ETH_HLEN;
	bpf_probe_read_kernel_str(packets.device, sizeof(packets.device), &dev->name);
	__builtin_memcpy(bytes.device, packets.device, sizeof(bytes.device));
	talea_count_by(&tx_packets, &packets, 1);
	talea_count_by(&tx_bytes, &bytes, length);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
