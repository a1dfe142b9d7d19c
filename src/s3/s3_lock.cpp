#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "krul/core/unique_name.hpp"
#include "objects.hpp"
#include "state.hpp"

namespace krul {
namespace s3 {
namespace {

constexpr std::string_view lock_head = "krul lock 1\n";
constexpr std::uint64_t longest_lock = 4096;
constexpr std::int64_t end_of_year_9999 = 253'402'300'799;  // Unix time in seconds; whoever claims more is not believed
constexpr const char* if_absent = "If-None-Match: *";

tl::unexpected<Error> held_by_another(const std::string& folder, const std::string& more) {
  return fail(ErrorCode::busy, "another writer holds conversation folder " + folder + more +
                                   "; try again when it is done; where it is a Conversation of this process, destroy "
                                   "that first");
}

tl::unexpected<Error> lost(const std::string& folder) {
  return fail(ErrorCode::busy, "the lock of conversation folder " + folder +
                                   " ran out and another writer took it; open the conversation again");
}

// What stands in a lock's object.
struct LockText {
  std::string token;
  std::int64_t expires_unix_s = 0;
};

std::string text_of(const LockText& lock) {
  return std::string(lock_head) + lock.token + "\n" + std::to_string(lock.expires_unix_s) + "\n";
}

std::optional<LockText> read_lock(std::span<const std::byte> bytes) {
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(lock_head) || !text.ends_with('\n')) return std::nullopt;
  text.remove_prefix(lock_head.size());
  const std::size_t end = text.find('\n');
  if (end == text.size() - 1) return std::nullopt;
  LockText lock{.token = std::string(text.substr(0, end))};
  const std::string_view digits = text.substr(end + 1, text.size() - end - 2);
  const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), lock.expires_unix_s);
  if (error != std::errc() || last != digits.data() + digits.size()) return std::nullopt;
  if (lock.expires_unix_s < 0 || lock.expires_unix_s > end_of_year_9999) return std::nullopt;
  return lock;
}

// The lock's object as it is now; none if there is none.
struct FoundLock {
  LockText text;
  std::string etag;
  std::int64_t now_unix_s = 0;
};

Result<std::optional<FoundLock>> find_lock(Client& client, const std::string& path, const std::string& action) {
  Transfer read{.action = action, .request = [&] { return Request{.key = path}; }, .most = longest_lock};
  client.run(read);
  if (!read.status && read.answer.status == 404 && read.answer.code != "NoSuchBucket") return std::nullopt;
  if (!read.status && read.status.error().code != ErrorCode::too_large) return propagate(read.status);
  const auto text = read.status ? read_lock(read.answer.body) : std::nullopt;
  if (!text)
    return fail(ErrorCode::io, "cannot " + action + ": object " + path +
                                   " is no lock that krul wrote; remove it if no writer is at work");
  return FoundLock{*text, read.answer.etag, read.answer.unix_s.value_or(client.server_unix_s())};
}

}  // namespace
}  // namespace s3

bool S3Store::State::is_older_than(const Held& lock, Duration age) const {
  return client.now() - lock.renewed >= age || std::chrono::system_clock::now() - lock.renewed_at >= age ||
         std::chrono::seconds(client.server_unix_s() - lock.renewed_unix_s) >= age;
}

Status S3Store::State::write_lock(const std::string& folder, Held& lock, const std::string& condition) {
  const TimePoint now = client.now();
  const auto at = std::chrono::system_clock::now();
  const std::int64_t unix_s = client.server_unix_s();
  const auto lifetime = std::chrono::ceil<std::chrono::seconds>(client.options().lock_lifetime).count();
  const std::string text = s3::text_of({lock.token, unix_s + lifetime});
  auto etag =
      s3::put_object(client, lock_path(folder), std::as_bytes(std::span(text)), condition, "lock folder " + folder);
  if (!etag) return propagate(etag);
  lock.etag = std::move(*etag);
  lock.renewed = now;
  lock.renewed_at = at;
  lock.renewed_unix_s = unix_s;
  return {};
}

Status S3Store::State::renew(const std::string& folder, Held& lock) {
  if (lock.lost) return s3::lost(folder);
  if (!client.options().conditional_writes) {
    const auto found = s3::find_lock(client, lock_path(folder), "renew the lock of folder " + folder);
    if (!found) return propagate(found);
    lock.lost = !*found || (**found).text.token != lock.token;
    if (lock.lost) return s3::lost(folder);
    return write_lock(folder, lock, "");
  }
  const Status status = write_lock(folder, lock, "If-Match: " + lock.etag);
  lock.lost = !status && status.error().code == ErrorCode::busy;
  return lock.lost ? Status(s3::lost(folder)) : status;
}

Result<std::shared_ptr<S3Store::State::Held>> S3Store::State::hold(const std::string& folder) {
  std::shared_ptr<Held> lock;
  {
    const std::lock_guard guard(mutex);
    const auto found = held.find(folder);
    if (found == held.end()) return lock;
    lock = found->second;
  }
  const std::lock_guard guard(lock->mutex);
  if (lock->lost) return s3::lost(folder);
  if (is_older_than(*lock, client.options().lock_lifetime / 3))
    if (const Status status = renew(folder, *lock); !status) return propagate(status);
  return lock;
}

Status S3Store::State::probe_conditions() {
  const std::lock_guard guard(probing_);
  if (heeds_conditions_) return {};
  const std::string probe = path(".probe");
  const std::string action = "ask whether the server heeds conditions";
  const auto put = [&](const std::string& condition) { return s3::put_object(client, probe, {}, condition, action); };
  // The first of all stores makes the object. It stays: who comes later need not make one, nor leaves one behind.
  auto absent = put(s3::if_absent);
  if (absent) absent = put(s3::if_absent);
  const auto other = put("If-Match: \"00000000000000000000000000000000\"");
  for (const auto& answer : {absent, other}) {
    if (answer || answer.error().code == ErrorCode::unsupported)
      return fail(
          ErrorCode::unsupported,
          "the S3 server does not heed If-None-Match and If-Match when it writes, so that two writers cannot be "
          "told apart; use one that does, or set conditional_writes = false if there is only ever one writer");
    if (answer.error().code != ErrorCode::busy) return propagate(answer);
  }
  heeds_conditions_ = true;
  return {};
}

Status S3Store::State::take(const std::string& folder, Held& lock) {
  const std::string action = "lock folder " + folder;
  const bool conditional = client.options().conditional_writes;
  lock.token = unique_name();
  if (conditional)
    if (const Status status = probe_conditions(); !status) return status;
  bool taken = false, taken_over = false;
  for (int attempt = 0; attempt < 3 && !taken; ++attempt) {
    if (conditional) {
      const Status status = write_lock(folder, lock, s3::if_absent);
      if (!status && status.error().code != ErrorCode::busy) return status;
      taken = status.has_value();
      if (taken) break;
    }
    const auto found = s3::find_lock(client, lock_path(folder), action);
    if (!found) return propagate(found);
    if (!*found && conditional) continue;  // it was given back in the meantime
    if (*found) {
      const std::int64_t left = (**found).text.expires_unix_s - (**found).now_unix_s;
      if (left >= 0)
        return s3::held_by_another(folder, ", unless it died, which shows in " + std::to_string(left + 1) + " s");
      // An empty condition would be none.
      if (conditional && (**found).etag.empty()) return s3::strange(action, "names no ETag");
      taken_over = true;
    }
    const Status status = write_lock(folder, lock, conditional ? "If-Match: " + (**found).etag : "");
    if (!status) return status.error().code == ErrorCode::busy ? Status(s3::held_by_another(folder, "")) : status;
    taken = true;
  }
  if (!taken) return s3::held_by_another(folder, "");
  if (!conditional) {
    const auto found = s3::find_lock(client, lock_path(folder), action);
    if (!found) return propagate(found);
    if (!*found || (**found).text.token != lock.token) return s3::held_by_another(folder, "");
  }
  const std::string inside = path(folder + "/");
  const auto has_etag = [](const s3::Listed& manifest) { return !manifest.etag.empty(); };
  if (taken_over) s3::abort_uploads(client, inside);
  const auto manifests = s3::list_objects(client, inside + "manifest-", "", action);
  Status known = manifests ? Status() : propagate(manifests);
  if (manifests && conditional && !std::ranges::all_of(*manifests, has_etag))
    known = s3::strange(action, "names no ETag");
  if (!known) {
    static_cast<void>(s3::erase_object(client, lock_path(folder), action));
    return known;
  }
  for (const s3::Listed& manifest : *manifests) lock.manifests[manifest.key.substr(inside.size())] = manifest.etag;
  return {};
}

void S3Store::State::give_back(const std::string& folder) {
  std::shared_ptr<Held> lock;
  {
    const std::lock_guard guard(mutex);
    const auto found = held.find(folder);
    if (found == held.end()) return;
    lock = found->second;
  }
  {
    const std::lock_guard guard(lock->mutex);
    // Whoever waits for the end of a program should not wait long for a server that is away: the lock runs out anyway.
    const RequestLimits limits{.deadline = client.now() + std::chrono::seconds(5)};
    const bool sure =
        !lock->lost && (!is_older_than(*lock, client.options().lock_lifetime / 2) || renew(folder, *lock));
    if (sure) static_cast<void>(s3::erase_object(client, lock_path(folder), "give folder " + folder + " back", limits));
    lock->lost = true;
  }
  const std::lock_guard guard(mutex);
  held.erase(folder);
}

Result<S3Store::Lock> S3Store::lock(const std::string& folder) {
  expects(is_store_folder(folder), "S3Store::lock: not a folder");
  const auto own = std::make_shared<State::Held>();
  const std::lock_guard taking(own->mutex);
  {
    const std::lock_guard guard(state_->mutex);
    if (!state_->held.try_emplace(folder, own).second) return s3::held_by_another(folder, "");
  }
  // Also where something is thrown, the folder is free again.
  struct Untaken {
    State& state;
    const std::string& folder;
    State::Held& lock;
    bool taken = false;
    ~Untaken() {
      if (taken) return;
      lock.lost = true;
      const std::lock_guard guard(state.mutex);
      state.held.erase(folder);
    }
  } untaken{*state_, folder, *own};
  if (const Status status = state_->take(folder, *own); !status) return propagate(status);
  Lock lock(state_, folder);
  untaken.taken = true;
  return lock;
}

S3Store::Lock::Lock(std::shared_ptr<State> state, std::string folder)
    : state_(std::move(state)), folder_(std::move(folder)) {}
S3Store::Lock::Lock(Lock&& other) noexcept = default;
S3Store::Lock::~Lock() {
  if (!state_) return;
  try {
    state_->give_back(folder_);
  } catch (...) {  // for want of memory: the lock runs out by itself
  }
}

}  // namespace krul
