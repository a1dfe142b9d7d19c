#include <krul/backend/archetypes.hpp>
#include <krul/backend/host_kv_cache.hpp>

using krul::KvCacheArchetype, krul::KvRows, krul::MutableKvRows, krul::Ticket, krul::TokenRange, krul::TokenSet;

namespace {

struct NoCapacity : KvCacheArchetype {
  void capacity() const = delete;
};
struct SignedLength : KvCacheArchetype {
  [[nodiscard]] int length() const;
};
struct PresentByValue : KvCacheArchetype {
  [[nodiscard]] TokenSet present(std::size_t) const;
};
struct PresentOfTheWholeCache : KvCacheArchetype {
  [[nodiscard]] const TokenSet& present() const;
};
struct WritesWithoutTicket : KvCacheArchetype {
  void write_kv(std::size_t, TokenRange, KvRows);
};
struct WritesFromMutableRows : KvCacheArchetype {
  [[nodiscard]] Ticket write_kv(std::size_t, TokenRange, MutableKvRows);
};
struct ReadsOnlyWhenMutable : KvCacheArchetype {
  [[nodiscard]] Ticket read_kv(std::size_t, TokenRange, MutableKvRows);
};
struct NoWait : KvCacheArchetype {
  void wait(Ticket) const = delete;
};
struct CommitSaysWhether : KvCacheArchetype {
  [[nodiscard]] bool commit(std::size_t);
};
struct NoTruncate : KvCacheArchetype {
  void truncate(std::size_t) = delete;
};
struct ViewOfConstantRows : krul::HostViewableCacheArchetype {
  [[nodiscard]] KvRows view(std::size_t);
};
struct NoMarkPresent : krul::HostViewableCacheArchetype {
  void mark_present(std::size_t, TokenRange) = delete;
};

static_assert(krul::KvCache<KvCacheArchetype>);
static_assert(krul::KvCache<krul::HostKvCache> && krul::HostViewableCache<krul::HostKvCache>);
static_assert(!krul::KvCache<int>);
static_assert(!krul::KvCache<NoCapacity>);
static_assert(!krul::KvCache<SignedLength>);
static_assert(!krul::KvCache<PresentByValue>);
static_assert(!krul::KvCache<PresentOfTheWholeCache>);
static_assert(!krul::KvCache<WritesWithoutTicket>);
static_assert(!krul::KvCache<WritesFromMutableRows>);
static_assert(!krul::KvCache<ReadsOnlyWhenMutable>);
static_assert(!krul::KvCache<NoWait>);
static_assert(!krul::KvCache<CommitSaysWhether>);
static_assert(!krul::KvCache<NoTruncate>);
static_assert(krul::KvCache<ViewOfConstantRows> && !krul::HostViewableCache<ViewOfConstantRows>);
static_assert(krul::KvCache<NoMarkPresent> && !krul::HostViewableCache<NoMarkPresent>);

}  // namespace
