// Completion channels and completion queues: both ways of polling, notification, overrun.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "fabric.h"

namespace emulated {

namespace {

[[noreturn]] void misuse(const char* what) {
  std::fprintf(stderr, "emulated verbs: %s\n", what);
  std::abort();
}

// What polling a completion gives back: places in its queue pair's work queues.
void release(const Completion& completion) {
  Qp* qp = completion.qp;
  if (completion.is_send)
    qp->send_polled.store(completion.send_done, std::memory_order_release);
  else
    qp->recv.polled.fetch_add(1, std::memory_order_release);
}

bool take(Cq* cq, Completion* completion) {
  std::lock_guard<std::mutex> lock(cq->mutex);
  if (cq->entries.empty()) return false;
  *completion = cq->entries.front();
  cq->entries.pop_front();
  release(*completion);
  return true;
}

int take_current(Cq* cq) {
  if (!take(cq, &cq->current)) return ENOENT;
  cq->ex.wr_id = cq->current.wc.wr_id;
  cq->ex.status = cq->current.wc.status;
  return 0;
}

int start_poll(ibv_cq_ex* ex, ibv_poll_cq_attr* attr) {
  Cq* cq = cq_of(ex);
  if (attr != nullptr && attr->comp_mask != 0) return EINVAL;
  if (const int number = injected("start_poll")) return number;
  if (cq->polling) misuse("ibv_start_poll before ibv_end_poll");
  const int found = take_current(cq);
  cq->polling = found == 0;
  return found;
}
int next_poll(ibv_cq_ex* ex) {
  if (!cq_of(ex)->polling) misuse("ibv_next_poll without a successful ibv_start_poll");
  return take_current(cq_of(ex));
}
void end_poll(ibv_cq_ex* ex) {
  if (!cq_of(ex)->polling) misuse("ibv_end_poll without a successful ibv_start_poll");
  cq_of(ex)->polling = false;
}

// Only what was asked for at creation can be read, as with real providers.
void set_readers(ibv_cq_ex* ex, uint64_t flags) {
  ex->start_poll = start_poll;
  ex->next_poll = next_poll;
  ex->end_poll = end_poll;
  ex->read_opcode = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.opcode; };
  ex->read_vendor_err = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.vendor_err; };
  ex->read_wc_flags = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.wc_flags; };
  if ((flags & IBV_WC_EX_WITH_BYTE_LEN) != 0)
    ex->read_byte_len = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.byte_len; };
  if ((flags & IBV_WC_EX_WITH_IMM) != 0)
    ex->read_imm_data = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.imm_data; };
  if ((flags & IBV_WC_EX_WITH_QP_NUM) != 0)
    ex->read_qp_num = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.qp_num; };
  if ((flags & IBV_WC_EX_WITH_SRC_QP) != 0)
    ex->read_src_qp = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.src_qp; };
  if ((flags & IBV_WC_EX_WITH_SLID) != 0) {
    ex->read_slid = [](ibv_cq_ex* cq) { return static_cast<uint32_t>(cq_of(cq)->current.wc.slid); };
  }
  if ((flags & IBV_WC_EX_WITH_SL) != 0)
    ex->read_sl = [](ibv_cq_ex* cq) { return cq_of(cq)->current.wc.sl; };
}

Cq* make_cq(ibv_context* context, int cqe, void* cq_context, ibv_comp_channel* channel,
            uint32_t vector) {
  const Device& device = *context_of(context)->device;
  if (cqe < 1 || cqe > device.config.max_cqe ||
      vector >= static_cast<uint32_t>(context->num_comp_vectors)) {
    return static_cast<Cq*>(fail_null(EINVAL));
  }
  auto* cq = new Cq;
  cq->ex.context = context;
  cq->ex.channel = channel;
  cq->ex.cq_context = cq_context;
  cq->ex.cqe = cqe;
  pthread_mutex_init(&cq->ex.mutex, nullptr);
  pthread_cond_init(&cq->ex.cond, nullptr);
  cq->channel = reinterpret_cast<Channel*>(channel);
  std::lock_guard<std::mutex> lock(fabric().mutex);
  context_of(context)->objects++;
  if (channel != nullptr) channel->refcnt++;
  return cq;
}

}  // namespace

ibv_cq_ex* create_cq_ex(ibv_context* context, ibv_cq_init_attr_ex* attr) {
  if (const int number = injected("create_cq_ex"))
    return static_cast<ibv_cq_ex*>(fail_null(number));
  constexpr uint64_t known =
      IBV_WC_STANDARD_FLAGS & ~static_cast<uint64_t>(IBV_WC_EX_WITH_DLID_PATH_BITS);
  if ((attr->wc_flags & ~known) != 0) return static_cast<ibv_cq_ex*>(fail_null(EOPNOTSUPP));
  Cq* cq = make_cq(context, static_cast<int>(attr->cqe), attr->cq_context, attr->channel,
                   attr->comp_vector);
  if (cq == nullptr) return nullptr;
  set_readers(&cq->ex, attr->wc_flags);
  return &cq->ex;
}

int poll_cq(ibv_cq* ibv, int entries, ibv_wc* wc) {
  if (const int number = injected("poll_cq")) return -number;
  int taken = 0;
  for (Completion one; taken < entries && take(cq_of(ibv), &one); taken++) wc[taken] = one.wc;
  return taken;
}

int req_notify_cq(ibv_cq* ibv, int solicited_only) {
  if (const int number = injected("req_notify_cq")) return number;
  Cq* cq = cq_of(ibv);
  std::lock_guard<std::mutex> lock(cq->mutex);
  if (solicited_only == 0)
    cq->armed = Cq::kAny;
  else if (cq->armed == Cq::kQuiet)
    cq->armed = Cq::kSolicited;
  return 0;
}

void complete(Cq* cq, const Completion& completion) {
  Fabric& all = fabric();
  Qp* qp = completion.qp;
  {
    std::lock_guard<std::mutex> lock(cq->mutex);
    if (cq->overrun) return;
    if (cq->entries.size() < static_cast<size_t>(cq->ex.cqe)) {
      cq->entries.push_back(completion);
      const bool solicited = completion.solicited || completion.wc.status != IBV_WC_SUCCESS;
      if (cq->armed == Cq::kAny || (cq->armed == Cq::kSolicited && solicited)) {
        cq->armed = Cq::kQuiet;
        if (cq->channel != nullptr) {
          cq->events_sent++;
          cq->channel->events.push(cq);
        }
      }
    } else {
      cq->overrun = true;
    }
  }
  if (cq->overrun) {
    count(Count::kCqOverrun);
    raise_async(context_of(cq->ex.context), IBV_EVENT_CQ_ERR, ibv_cq_ex_to_cq(&cq->ex));
    for (auto& [number, other] : context_of(cq->ex.context)->device->qps) {
      if (other->send_cq != cq && other->recv_cq != cq) continue;
      other->doomed = true;
      all.doomed.push_back(other);
    }
    return;
  }
  qp->completions++;
  if (qp->failure.has_value() && qp->completions == qp->failure->after) {
    qp->doomed = true;
    all.doomed.push_back(qp);
  }
}

void forget_completions(Cq* cq, const Qp* qp) {
  std::lock_guard<std::mutex> lock(cq->mutex);
  const auto gone = [qp](const Completion& one) { return one.qp == qp; };
  cq->entries.erase(std::remove_if(cq->entries.begin(), cq->entries.end(), gone),
                    cq->entries.end());
}

}  // namespace emulated

using namespace emulated;

extern "C" {

ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  if (const int number = injected("create_comp_channel"))
    return static_cast<ibv_comp_channel*>(fail_null(number));
  auto* channel = new Channel;
  channel->ibv.context = context;
  channel->ibv.fd = channel->events.fd();
  std::lock_guard<std::mutex> lock(fabric().mutex);
  context_of(context)->objects++;
  return &channel->ibv;
}

int ibv_destroy_comp_channel(ibv_comp_channel* ibv) {
  {
    std::lock_guard<std::mutex> lock(fabric().mutex);
    if (ibv->refcnt > 0) return EBUSY;
    context_of(ibv->context)->objects--;
  }
  delete reinterpret_cast<Channel*>(ibv);
  return 0;
}

ibv_cq* ibv_create_cq(ibv_context* context, int cqe, void* cq_context, ibv_comp_channel* channel,
                      int vector) {
  if (const int number = injected("create_cq")) return static_cast<ibv_cq*>(fail_null(number));
  Cq* cq = make_cq(context, cqe, cq_context, channel, static_cast<uint32_t>(vector));
  return cq == nullptr ? nullptr : ibv_cq_ex_to_cq(&cq->ex);
}

int ibv_resize_cq(ibv_cq* ibv, int cqe) {
  Cq* cq = cq_of(ibv);
  std::lock_guard<std::mutex> lock(cq->mutex);
  const int max = context_of(ibv->context)->device->config.max_cqe;
  if (cqe < 1 || cqe > max || static_cast<size_t>(cqe) < cq->entries.size()) return EINVAL;
  cq->ex.cqe = cqe;
  return 0;
}

// Waits until every event that was fetched has been acknowledged, as libibverbs does.
int ibv_destroy_cq(ibv_cq* ibv) {
  if (const int number = injected("destroy_cq")) return number;
  Cq* cq = cq_of(ibv);
  Context* context = context_of(ibv->context);
  {
    std::lock_guard<std::mutex> lock(fabric().mutex);
    if (cq->users > 0) return EBUSY;
    if (cq->channel != nullptr) {
      const size_t unread = cq->channel->events.remove_if([&](Cq* one) { return one == cq; });
      std::lock_guard<std::mutex> inner(cq->mutex);
      cq->events_sent -= static_cast<uint32_t>(unread);
      cq->ex.channel->refcnt--;
    }
    context->async.remove_if([&](const ibv_async_event& one) {
      return one.event_type == IBV_EVENT_CQ_ERR && one.element.cq == ibv;
    });
    context->objects--;
  }
  {
    std::unique_lock<std::mutex> lock(cq->mutex);
    cq->acknowledged.wait(lock, [&] { return cq->events_acked == cq->events_sent; });
  }
  pthread_mutex_destroy(&cq->ex.mutex);
  pthread_cond_destroy(&cq->ex.cond);
  delete cq;
  return 0;
}

int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  Cq* found = nullptr;
  if (!reinterpret_cast<Channel*>(channel)->events.pop(&found)) return -1;
  *cq = ibv_cq_ex_to_cq(&found->ex);
  *cq_context = found->ex.cq_context;
  return 0;
}

void ibv_ack_cq_events(ibv_cq* ibv, unsigned int events) {
  Cq* cq = cq_of(ibv);
  std::lock_guard<std::mutex> lock(cq->mutex);
  cq->events_acked += events;
  cq->acknowledged.notify_all();
}

}  // extern "C"
