#include "nodes.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>

namespace krul::redis {

constexpr std::size_t slots = 16384;
/// Of a cluster: Redis itself recommends at most some 1000.
constexpr std::size_t most_nodes = 4096;

std::uint16_t slot_of(std::string_view folder) noexcept {
  std::uint32_t crc = 0;
  for (const char byte : folder) {
    crc ^= static_cast<std::uint32_t>(static_cast<unsigned char>(byte)) << 8;
    for (int bit = 0; bit < 8; ++bit) crc = ((crc << 1) ^ ((crc & 0x8000U) != 0 ? 0x1021U : 0U)) & 0xffffU;
  }
  return static_cast<std::uint16_t>(crc % slots);
}

Result<Taken> Taken::opened(std::shared_ptr<Node> node, std::optional<Connection> idle, TimePoint deadline) {
  Taken taken(std::move(node));  // counted, and given back if nothing comes of it
  if (idle && idle->is_quiet()) {
    taken.connection_ = std::move(idle);
    return taken;
  }
  idle.reset();
  auto connection = Connection::open(taken.node_->address_, taken.node_->options_, deadline);
  if (!connection) return propagate(connection);
  taken.connection_.emplace(std::move(*connection));
  return taken;
}

Result<std::optional<Taken>> Taken::at_once(const std::shared_ptr<Node>& node, TimePoint deadline) {
  std::optional<Connection> idle;
  {
    const std::lock_guard guard(node->mutex_);
    if (node->used_ >= node->options_.connections) return std::optional<Taken>{};
    ++node->used_;
    if (!node->idle_.empty()) {
      idle.emplace(std::move(node->idle_.back()));
      node->idle_.pop_back();
    }
  }
  auto taken = opened(node, std::move(idle), deadline);
  if (!taken) return propagate(taken);
  return std::optional<Taken>(std::move(*taken));
}

Result<Taken> Taken::when_free(const std::shared_ptr<Node>& node, const RequestLimits& limits) {
  const Duration patience = node->options_.request_timeout;
  const TimePoint given_up = SteadyClock{}.now() + patience;
  const std::chrono::steady_clock::time_point end(std::min(given_up, limits.deadline));
  std::optional<Connection> idle;
  {
    std::unique_lock guard(node->mutex_);
    const bool is_free =
        node->is_free_.wait_until(guard, limits.stop, end, [&] { return node->used_ < node->options_.connections; });
    if (!is_free) {
      guard.unlock();
      if (const Status status = limits.check(SteadyClock{}.now()); !status) return propagate(status);
      return fail(ErrorCode::deadline, "all " + std::to_string(node->options_.connections) +
                                           " connections to the Redis server at " + node->address_.text() +
                                           " were in use for " + in_ms(patience) +
                                           " ms; allow more of them, or more time");
    }
    ++node->used_;
    if (!node->idle_.empty()) {
      idle.emplace(std::move(node->idle_.back()));
      node->idle_.pop_back();
    }
  }
  return opened(node, std::move(idle), limits.deadline);
}

Taken::~Taken() {
  if (!node_) return;
  {
    const std::lock_guard guard(node_->mutex_);
    --node_->used_;
    if (connection_ && is_clean_) node_->idle_.push_back(std::move(*connection_));
  }
  node_->is_free_.notify_one();
}

Nodes::Nodes(const RedisStoreOptions& options) : options_(options), first_(node_at({options.host, options.port})) {}

std::shared_ptr<Node> Nodes::node_at(const Address& address) {
  const auto found = known_.find(address);
  if (found != known_.end()) return found->second;
  if (known_.size() >= most_nodes) return first_;  // somebody makes them up
  return known_.emplace(address, std::make_shared<Node>(address, options_)).first->second;
}

std::shared_ptr<Node> Nodes::of_slot(std::uint16_t slot) {
  const std::lock_guard guard(mutex_);
  return by_slot_.empty() || !by_slot_[slot] ? first_ : by_slot_[slot];
}

void Nodes::move_slot(std::uint16_t slot, std::shared_ptr<Node> to) {
  const std::lock_guard guard(mutex_);
  if (by_slot_.empty()) by_slot_.assign(slots, first_);
  by_slot_[slot] = std::move(to);
}

Result<std::shared_ptr<Node>> Nodes::redirected(std::string_view reply, const Address& from) {
  const std::string_view place = reply.substr(reply.rfind(' ') + 1);
  const std::size_t colon = place.rfind(':');
  int port = 0;
  if (colon != std::string_view::npos) std::from_chars(place.data() + colon + 1, place.data() + place.size(), port);
  if (port < 1 || port > 65535 || colon > 255) return server_error(from, reply);
  std::string host(place.substr(0, colon));
  if (host.empty() || host == "?") host = from.host;
  const std::lock_guard guard(mutex_);
  return node_at({std::move(host), port});
}

std::vector<std::shared_ptr<Node>> Nodes::masters() {
  const std::lock_guard guard(mutex_);
  if (by_slot_.empty()) return {first_};
  std::vector<std::shared_ptr<Node>> all;
  for (const auto& node : by_slot_)  // neighbours mostly have the same one
    if (node && (all.empty() || all.back() != node)) all.push_back(node);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void Nodes::refresh() {
  {
    const std::lock_guard guard(mutex_);
    if (by_slot_.empty()) return;
  }
  static_cast<void>(discover());
}

Status Nodes::discover() {
  std::vector<std::shared_ptr<Node>> candidates{first_};
  {
    const std::lock_guard guard(mutex_);
    for (const auto& [address, node] : known_)
      if (node != first_) candidates.push_back(node);
  }
  Status first_status;
  for (const auto& node : candidates) {
    Status status = ask(node);
    if (status) return status;
    if (first_status) first_status = std::move(status);
  }
  return first_status;
}

Status Nodes::ask(const std::shared_ptr<Node>& node) {
  // Not waited for: whoever asks may be the one who has them all.
  auto free = Taken::at_once(node, TimePoint::max());
  if (!free) return propagate(free);
  if (!*free)
    return fail(ErrorCode::busy, "all connections to the Redis server at " + node->address().text() +
                                     " are in use; try again, or allow more of them");
  Taken& taken = **free;
  Command question{.words = {"CLUSTER", "SLOTS"},
                   .expected = {.most_bytes = std::size_t{16} << 20, .most_elements = std::size_t{1} << 20}};
  taken.set_clean(false);
  const auto replies = taken.connection().ask(std::span(&question, 1), options_.request_timeout);
  if (!replies) return propagate(replies);
  taken.set_clean(true);
  const redisReply& ranges = *replies->front();
  if (ranges.type == REDIS_REPLY_ERROR) {
    const std::string_view said = text_of(ranges);
    // Not a cluster's, or it may not be asked: what is asked will show.
    if (said.starts_with("ERR") || said.starts_with("NOPERM")) return {};
    return server_error(node->address(), said);
  }
  if (ranges.type != REDIS_REPLY_ARRAY) return {};
  const std::lock_guard guard(mutex_);
  std::vector<std::shared_ptr<Node>> by_slot(slots);
  std::size_t told = 0;
  for (std::size_t i = 0; i < ranges.elements; ++i) {
    // first slot, last slot, [host, port, ...] of the master, replicas
    const redisReply& range = *ranges.element[i];
    if (range.type != REDIS_REPLY_ARRAY || range.elements < 3) continue;
    const redisReply &first = *range.element[0], &last = *range.element[1], &master = *range.element[2];
    if (first.type != REDIS_REPLY_INTEGER || last.type != REDIS_REPLY_INTEGER || first.integer < 0 ||
        last.integer >= static_cast<long long>(slots) || master.type != REDIS_REPLY_ARRAY || master.elements < 2)
      continue;
    const redisReply &host = *master.element[0], &port = *master.element[1];
    if (port.type != REDIS_REPLY_INTEGER || port.integer < 1 || port.integer > 65535) continue;
    // Each slot is told of once. Ranges that overlap without end would keep this busy for as long as it likes.
    if (first.integer > last.integer) continue;
    told += static_cast<std::size_t>(last.integer - first.integer) + 1;
    if (told > slots) break;
    std::string name(text_of(host));
    if (name.empty() || name == "?" || name.size() > 255) name = node->address().host;
    const auto responsible = node_at({std::move(name), static_cast<int>(port.integer)});
    for (long long slot = first.integer; slot <= last.integer; ++slot)
      by_slot[static_cast<std::size_t>(slot)] = responsible;
  }
  by_slot_ = std::move(by_slot);
  return {};
}

}  // namespace krul::redis
