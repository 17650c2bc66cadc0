// Protection domains, memory regions and the key table: who may touch which bytes.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fabric.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

namespace emulated {
namespace {

constexpr uint64_t kPageMask = 4095;
constexpr int kKeyDepthMax = 4;
constexpr unsigned kAccessKnown = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                  IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ZERO_BASED |
                                  IBV_ACCESS_HUGETLB;

bool resolve_at(const Device& device, const ibv_pd* pd, uint32_t value, uint64_t address,
                uint64_t bytes, unsigned access, std::vector<Span>* spans, int depth) {
  const auto found = device.keys.find(value);
  if (found == device.keys.end() || depth == 0) return false;
  const Key& key = *found->second;
  if (key.pd != pd || key.free || (key.access & access) != access) return false;
  if (key.null) {
    spans->push_back({nullptr, bytes});
    return true;
  }
  if (address < key.start || bytes > key.length || address - key.start > key.length - bytes)
    return false;
  uint64_t offset = address - key.start;
  if (!key.indirect) {
    if (bytes > 0) spans->push_back({key.host + offset, bytes});
    return true;
  }
  // What an entry points to needs local rights only: the remote ones are the indirect key's.
  const unsigned inner = (access & IBV_ACCESS_REMOTE_WRITE) != 0 ? IBV_ACCESS_LOCAL_WRITE : 0;
  size_t i = static_cast<size_t>(
      std::upper_bound(key.klm_ends.begin(), key.klm_ends.end(), offset) - key.klm_ends.begin());
  while (bytes > 0) {
    if (i == key.klms.size()) return false;
    const Klm& klm = key.klms[i];
    const uint64_t skipped = offset - (key.klm_ends[i] - klm.bytes);
    const uint64_t part = std::min<uint64_t>(bytes, klm.bytes - skipped);
    if (part > 0 &&
        !resolve_at(device, pd, klm.key, klm.address + skipped, part, inner, spans, depth - 1)) {
      return false;
    }
    offset += part;
    bytes -= part;
    i++;
  }
  return true;
}

ibv_mr* add_region(ibv_pd* pd, void* host, size_t length, uint64_t start, unsigned access) {
  Fabric& all = fabric();
  std::lock_guard<std::mutex> lock(all.mutex);
  if (length > all.config.memlock_bytes - std::min(all.config.memlock_bytes, all.locked_bytes)) {
    explain("the memlock limit is " + std::to_string(all.config.memlock_bytes) + " bytes");
    return static_cast<ibv_mr*>(fail_null(ENOMEM));
  }
  Key* key = add_key(*context_of(pd->context)->device, pd);
  key->host = static_cast<uint8_t*>(host);
  key->start = start;
  key->length = length;
  key->access = access;
  auto* mr = new Mr;
  mr->key = key->value;
  mr->locked_bytes = length;
  mr->ibv = ibv_mr{pd->context, pd, host, length, 0, key->value, key->value};
  all.locked_bytes += length;
  pd_of(pd)->users++;
  return &mr->ibv;
}

int check_region(const void* host, size_t length, uint64_t start, unsigned access) {
  access &= ~static_cast<unsigned>(IBV_ACCESS_OPTIONAL_RANGE);
  if (length == 0 || (access & ~kAccessKnown) != 0) return EINVAL;
  if (host == nullptr) return EFAULT;
  if ((access & IBV_ACCESS_REMOTE_WRITE) != 0 && (access & IBV_ACCESS_LOCAL_WRITE) == 0)
    return EINVAL;
  // As the kernel: both must lie at the same place in their pages.
  return (reinterpret_cast<uintptr_t>(host) & kPageMask) == (start & kPageMask) ? 0 : EINVAL;
}

ibv_mr* register_region(const char* call, ibv_pd* pd, void* host, size_t length, uint64_t start,
                        unsigned access) {
  int number = injected(call);
  if (number == 0) number = check_region(host, length, start, access);
  if (number != 0) return static_cast<ibv_mr*>(fail_null(number));
  if ((access & IBV_ACCESS_ZERO_BASED) != 0) start = 0;
  return add_region(pd, host, length, start, access);
}

}  // namespace

Key* add_key(Device& device, ibv_pd* pd) {
  auto key = std::make_unique<Key>();
  key->value = device.next_key++ << 8;  // a number is not used twice: a stale key is always noticed
  key->pd = pd;
  Key* made = key.get();
  device.keys[made->value] = std::move(key);
  return made;
}

void index_klms(Key* key) {
  uint64_t end = 0;
  key->klm_ends.resize(key->klms.size());
  for (size_t i = 0; i < key->klms.size(); i++) key->klm_ends[i] = end += key->klms[i].bytes;
}

bool resolve(const Device& device, const ibv_pd* pd, uint32_t key, uint64_t address, uint64_t bytes,
             unsigned access, std::vector<Span>* spans) {
  return resolve_at(device, pd, key, address, bytes, access, spans, kKeyDepthMax);
}

void copy_spans(const std::vector<Span>& from, const std::vector<Span>& to) {
  size_t i = 0, j = 0;
  uint64_t from_done = 0, to_done = 0;
  while (i < from.size() && j < to.size()) {
    const uint64_t part = std::min(from[i].bytes - from_done, to[j].bytes - to_done);
    if (to[j].data != nullptr && part > 0) {
      if (from[i].data != nullptr)
        std::memmove(to[j].data + to_done, from[i].data + from_done, part);
      else
        std::memset(to[j].data + to_done, 0, part);
    }
    from_done += part;
    to_done += part;
    if (from_done == from[i].bytes) i++, from_done = 0;
    if (to_done == to[j].bytes) j++, to_done = 0;
  }
}

}  // namespace emulated

using namespace emulated;

extern "C" {

ibv_pd* ibv_alloc_pd(ibv_context* context) {
  if (const int number = injected("alloc_pd")) return static_cast<ibv_pd*>(fail_null(number));
  auto* pd = new Pd;
  pd->ibv.context = context;
  std::lock_guard<std::mutex> lock(fabric().mutex);
  context_of(context)->objects++;
  return &pd->ibv;
}

int ibv_dealloc_pd(ibv_pd* ibv) {
  Pd* pd = pd_of(ibv);
  {
    std::lock_guard<std::mutex> lock(fabric().mutex);
    if (pd->users > 0) return EBUSY;
    context_of(ibv->context)->objects--;
  }
  delete pd;
  return 0;
}

ibv_mr* ibv_reg_mr(ibv_pd* pd, void* addr, size_t length, int access) {
  return register_region("reg_mr", pd, addr, length, reinterpret_cast<uintptr_t>(addr),
                         static_cast<unsigned>(access));
}
ibv_mr* ibv_reg_mr_iova(ibv_pd* pd, void* addr, size_t length, uint64_t iova, int access) {
  return register_region("reg_mr", pd, addr, length, iova, static_cast<unsigned>(access));
}
ibv_mr* ibv_reg_mr_iova2(ibv_pd* pd, void* addr, size_t length, uint64_t iova,
                         unsigned int access) {
  return register_region("reg_mr", pd, addr, length, iova, access);
}

// Any file descriptor that can be mapped stands for a dmabuf (tests: memfd_create).
ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* pd, uint64_t offset, size_t length, uint64_t iova, int fd,
                          int access) {
  if (const int number = injected("reg_dmabuf_mr")) return static_cast<ibv_mr*>(fail_null(number));
  if (!context_of(pd->context)->device->config.mlx5)
    return static_cast<ibv_mr*>(fail_null(EOPNOTSUPP));
  if (fd < 0 || fcntl(fd, F_GETFD) < 0) return static_cast<ibv_mr*>(fail_null(EBADF));
  if (length == 0 || (offset & kPageMask) != (iova & kPageMask))
    return static_cast<ibv_mr*>(fail_null(EINVAL));
  const size_t bytes = offset + length;
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapping == MAP_FAILED) return nullptr;
  ibv_mr* ibv = add_region(pd, static_cast<uint8_t*>(mapping) + offset, length, iova,
                           static_cast<unsigned>(access));
  if (ibv == nullptr) {
    munmap(mapping, bytes);
    return static_cast<ibv_mr*>(fail_null(ENOMEM));
  }
  Mr* mr = reinterpret_cast<Mr*>(ibv);
  mr->ibv.addr = nullptr;
  mr->mapping = mapping;
  mr->mapping_bytes = bytes;
  return ibv;
}

// When this returns no packet writes through the key any more: delivery holds the same lock.
int ibv_dereg_mr(ibv_mr* ibv) {
  if (const int number = injected("dereg_mr")) return number;
  Mr* mr = reinterpret_cast<Mr*>(ibv);
  {
    Fabric& all = fabric();
    std::lock_guard<std::mutex> lock(all.mutex);
    context_of(ibv->context)->device->keys.erase(mr->key);
    all.locked_bytes -= mr->locked_bytes;
    pd_of(ibv->pd)->users--;
  }
  if (mr->mapping != nullptr) munmap(mr->mapping, mr->mapping_bytes);
  delete mr;
  return 0;
}

ibv_ah* ibv_create_ah(ibv_pd* pd, ibv_ah_attr* attr) {
  if (const int number = injected("create_ah")) return static_cast<ibv_ah*>(fail_null(number));
  const PortConfig* port = port_of(*context_of(pd->context)->device, attr->port_num);
  const bool addressed = port != nullptr && (attr->is_global != 0 || !port->ethernet);
  if (!addressed || (attr->is_global != 0 && port->find_gid(attr->grh.sgid_index) == nullptr)) {
    return static_cast<ibv_ah*>(fail_null(EINVAL));
  }
  auto* ah = new Ah;
  ah->ibv.context = pd->context;
  ah->ibv.pd = pd;
  ah->attr = *attr;
  std::lock_guard<std::mutex> lock(fabric().mutex);
  pd_of(pd)->users++;
  return &ah->ibv;
}

int ibv_destroy_ah(ibv_ah* ibv) {
  {
    std::lock_guard<std::mutex> lock(fabric().mutex);
    pd_of(ibv->pd)->users--;
  }
  delete reinterpret_cast<Ah*>(ibv);
  return 0;
}

}  // extern "C"
