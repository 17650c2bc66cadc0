#!/bin/busybox sh
# A guest's first process: loads modules, shares the host's root file system read-only, brings up eth0 and rxe0, runs the
# agent, again when it ends, and powers off at a line on the control port. @PROJECT@ is the project's folder.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /host
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules/order); do $B insmod /modules/$module || echo "sdr: no module $module"; done
role=$($B sed 's/.*sdr.role=\([0-9]*\).*/\1/' /proc/cmdline)
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose host /host || echo "sdr: no 9p"
$B mount -t proc proc /host/proc
$B mount -t sysfs sysfs /host/sys
$B mount --bind /dev /host/dev
$B mkdir -p /dev/shm
$B mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$B mount -t tmpfs -o mode=755,size=3g tmpfs /host/run
for limit in rmem_max wmem_max; do echo 16777216 > /proc/sys/net/core/$limit; done
$B ip link set lo up
$B ip addr add 10.9.0.$role/24 dev eth0
$B ip link set eth0 mtu 4400 up
# Neighbours are known from the start: no packet waits for ARP, whatever netem does to it.
other=$((3 - role))
$B arp -s 10.9.0.$other 52:54:00:00:00:0$other
$B chroot /host rdma link add rxe0 type rxe netdev eth0 || echo "sdr: no rxe0"
for port in /sys/class/virtio-ports/*; do
  $B ln -s /dev/${port##*/} /dev/$($B cat $port/name)
done
ulimit -l unlimited
ulimit -c 0
(
  while :; do
    $B chroot /host /usr/bin/env HOME=/run TMPDIR=/run PATH=/usr/sbin:/usr/bin:/sbin:/bin \
      '@PROJECT@/build-native/agent' --ports /dev/sdr.rpc /dev/sdr.wake
    echo "sdr: the agent ended with $?"
  done
) &
echo "sdr: ready"
# Empty, at once, while nobody is at the other end.
until [ "$($B head -n 1 /dev/sdr.control)" = off ]; do $B sleep 0.2; done
$B poweroff -f
