#include "exchange.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/descriptor.hpp"

namespace krul::redis {
namespace {

constexpr std::size_t most_requests = 128;  ///< under way on one connection
constexpr int most_redirections = 16;
/// Between two attempts to reach a slot that is on its way to another node.
constexpr Duration pause = std::chrono::milliseconds(20);

/// A descriptor that can be read once somebody asks to stop.
class StopEvent {
 public:
  explicit StopEvent(const std::stop_token& stop) {
    if (!stop.stop_possible()) return;
    descriptor_ = detail::Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (descriptor_.is_open()) wake_.emplace(stop, Wake{descriptor_.get()});
  }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_.get(); }

 private:
  struct Wake {
    int descriptor;
    void operator()() const noexcept { static_cast<void>(::eventfd_write(descriptor, 1)); }
  };
  detail::Descriptor descriptor_;
  std::optional<std::stop_callback<Wake>> wake_;  // goes first
};

/// A connection and what was asked over it.
struct Lane {
  Taken taken;
  std::deque<std::size_t> asked = {};  ///< in order
  std::size_t bytes = 0;               ///< of them
  TimePoint heard = {};                ///< when something last moved
  Command asking = {.words = {"ASKING"}};
  std::size_t window = window_of(taken.connection().connected_in());

  [[nodiscard]] bool has_room() const noexcept { return asked.size() < most_requests && bytes < window; }

  /// What may be under way: so much that the connection does not idle for a round trip at 400 MB/s, and no more, as
  /// replies that wait leave the caches of server and client.
  [[nodiscard]] static std::size_t window_of(Duration round_trip) {
    constexpr double least = 256 << 10, most = 8 << 20, bytes_per_s = 4e8;
    return static_cast<std::size_t>(std::min(least + seconds(round_trip) * bytes_per_s, most));
  }
};

std::size_t bytes_of(const Command& command) {
  return command.value.size() + command.expected.into.size();
}

/// The keys that a command touches, as people may look for them.
std::string keys_of(const Command& command) {
  const bool is_script = command.words.front() == "EVAL";
  const std::size_t first = is_script ? 3 : 1;
  const std::size_t end = is_script ? first + std::stoul(command.words[2]) : first + 1;
  std::string keys;
  for (std::size_t i = first; i < std::min(end, command.words.size()); ++i)
    keys += (i == first ? "" : " or ") + command.words[i];
  return keys;
}

class Exchange {
 public:
  Exchange(Nodes& nodes, const RedisStoreOptions& options, std::span<Request> requests, const RequestLimits& limits,
           const RequestEnd& ended)
      : nodes_(nodes),
        options_(options),
        requests_(requests),
        limits_(limits),
        ended_(ended),
        stop_(limits.stop),
        states_(requests.size()) {}

  void run() {
    for (std::size_t i = 0; i < requests_.size(); ++i)
      queue(i, requests_[i].node ? requests_[i].node : nodes_.of_slot(requests_[i].slot), Place::last);
    open_ = requests_.size();
    while (open_ > 0) {
      if (const Status status = limits_.check(SteadyClock{}.now()); !status) return end_all(status);
      end_pauses();
      assign();
      if (open_ > 0) wait();
    }
  }

 private:
  enum class Place : std::uint8_t { first, last };
  struct State {
    bool is_open = true;
    bool is_asking = false;  ///< the node is told that it was named by another one
    bool is_retried = false;
    int redirections = 0;
    TimePoint first_pause = {};
  };
  struct Paused {
    TimePoint until;
    std::size_t request;
  };

  void queue(std::size_t i, const std::shared_ptr<Node>& node, Place place) {
    auto& queue = queues_[node];
    if (place == Place::first)
      queue.push_front(i);
    else
      queue.push_back(i);
  }

  void end(std::size_t i, Status status) {
    states_[i].is_open = false;
    --open_;
    requests_[i].status = std::move(status);
    if (ended_) ended_(requests_[i]);
  }

  void end_all(const Status& status) {
    lanes_.clear();  // what was under way on them is not waited for
    for (std::size_t i = 0; i < requests_.size(); ++i)
      if (states_[i].is_open) end(i, status);
  }

  void end_pauses() {
    const TimePoint now = SteadyClock{}.now();
    std::erase_if(paused_, [&](const Paused& paused) {
      if (paused.until > now) return false;
      queue(paused.request, nodes_.of_slot(requests_[paused.request].slot), Place::last);
      return true;
    });
  }

  /// Gives queued requests to connections, and takes connections where there are more of them than one can do.
  void assign() {
    for (auto& [node, queue] : queues_) {
      while (!queue.empty() && take_lane(node, queue)) {
      }
      std::vector<Lane*> lanes;
      for (Lane& lane : lanes_)
        if (lane.taken.node() == node) lanes.push_back(&lane);
      // Dealt out one by one, so that they end in about the order in which they were asked: a restore wants its first
      // layers first.
      while (!lanes.empty() && !queue.empty()) {
        Lane& least = **std::ranges::min_element(lanes, {}, [](const Lane* lane) {
          return std::pair(lane->has_room() ? lane->bytes : SIZE_MAX, lane->asked.size());
        });
        if (!least.has_room()) break;
        give(least, queue.front());
        queue.pop_front();
      }
    }
    give_back();
  }

  /// A connection that has nothing to do is somebody else's.
  void give_back() {
    std::erase_if(lanes_, [](const Lane& lane) { return lane.asked.empty(); });
  }

  /// Short commands are as fast over one connection.
  [[nodiscard]] bool is_work_for_more(const std::deque<std::size_t>& queue, std::size_t connections) const {
    constexpr std::size_t bytes_each = std::size_t{128} << 10;
    if (queue.size() <= connections) return false;
    std::size_t bytes = 0;
    for (const std::size_t i : queue)
      if ((bytes += bytes_of(requests_[i].command)) > connections * bytes_each) return true;
    return false;
  }

  /// One more connection, if there is work for it. The first one is waited for only if nothing else is under way, so
  /// that nobody waits for what somebody has who waits for what this one has.
  bool take_lane(const std::shared_ptr<Node>& node, std::deque<std::size_t>& queue) {
    const auto count = static_cast<std::size_t>(
        std::count_if(lanes_.begin(), lanes_.end(), [&](const Lane& lane) { return lane.taken.node() == node; }));
    if (count >= options_.connections || (count > 0 && !is_work_for_more(queue, count))) return false;
    std::optional<Taken> taken;
    if (lanes_.empty()) {
      auto waited = Taken::when_free(node, limits_);
      if (!waited) return refused(node, queue, waited.error());
      taken.emplace(std::move(*waited));
    } else {
      auto free = Taken::at_once(node, limits_.deadline);
      if (!free && count > 0) return false;  // the others do
      if (!free) return refused(node, queue, free.error());
      if (!*free) return false;
      taken.emplace(std::move(**free));
    }
    lanes_.push_back({.taken = std::move(*taken)});
    return true;
  }

  /// No connection: what is queued ends, or goes to the node that has taken over.
  bool refused(const std::shared_ptr<Node>& node, std::deque<std::size_t>& queue, const Error& why) {
    const auto waiting = std::exchange(queue, {});
    if (why.code == ErrorCode::io) is_map_old_ = true;
    refresh_map();
    for (const std::size_t i : waiting) {
      const auto other = nodes_.of_slot(requests_[i].slot);
      if (why.code != ErrorCode::io || states_[i].is_retried || requests_[i].node || other == node) {
        end(i, tl::unexpected<Error>(why));
        continue;
      }
      states_[i].is_retried = true;
      redirected_.emplace_back(i, other);
    }
    return false;
  }

  void give(Lane& lane, std::size_t i) {
    Request& request = requests_[i];
    lane.taken.set_clean(false);
    if (lane.asked.empty()) lane.heard = SteadyClock{}.now();
    if (states_[i].is_asking) {
      // Its reply comes first, see take_replies.
      lane.taken.connection().send(lane.asking);
    }
    lane.taken.connection().send(request.command);
    lane.asked.push_back(i);
    lane.bytes += bytes_of(request.command);
  }

  void wait() {
    for (const auto& [i, node] : std::exchange(redirected_, {})) queue(i, node, Place::first);
    std::vector<pollfd> polled;
    TimePoint until = limits_.deadline;
    for (Lane& lane : lanes_) {
      const bool has_to_write = lane.taken.connection().has_to_write();
      polled.push_back({.fd = lane.taken.connection().descriptor(),
                        .events = static_cast<short>(POLLIN | (has_to_write ? POLLOUT : 0)),
                        .revents = 0});
      until = std::min(until, lane.heard + options_.request_timeout);
    }
    if (stop_.descriptor() >= 0) polled.push_back({.fd = stop_.descriptor(), .events = POLLIN, .revents = 0});
    const bool is_waiting =
        std::any_of(queues_.begin(), queues_.end(), [](const auto& of) { return !of.second.empty(); });
    const TimePoint now = SteadyClock{}.now();
    // Somebody else's connections may become free, and pauses end.
    if (is_waiting || !paused_.empty()) until = std::min(until, now + pause / 4);
    if (lanes_.empty() && is_waiting) return;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
    const int ready = ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
    if (ready < 0 && errno != EINTR)
      return end_all(fail(ErrorCode::io, "the system does not let connections be waited for; close other files"));
    const TimePoint after = SteadyClock{}.now();
    auto events = polled.begin();
    std::erase_if(lanes_, [&](Lane& lane) { return !serve(lane, ready > 0 ? (events++)->revents : short{0}, after); });
    refresh_map();
  }

  /// @return whether the connection goes on
  bool serve(Lane& lane, short events, TimePoint now) {
    Connection& connection = lane.taken.connection();
    Status status;
    if ((events & POLLOUT) != 0) {
      lane.heard = now;
      status = connection.write();
    }
    if (status && (events & (POLLIN | POLLHUP | POLLERR)) != 0) {
      lane.heard = now;
      const std::size_t next = lane.asked.front();  // no connection is waited for that has nothing to do
      status = connection.read(states_[next].is_asking ? nullptr : &requests_[next].command.expected);
      if (status) status = take_replies(lane);
    }
    if (status && now - lane.heard >= options_.request_timeout)
      status = silent(connection.address(), options_.request_timeout);
    if (status) return true;
    lane.taken.set_clean(false);
    for (const std::size_t i : std::exchange(lane.asked, {})) {
      // A server that is silent is not asked again: that would take as long.
      if (states_[i].is_retried || status.error().code == ErrorCode::deadline) {
        end(i, status);
        continue;
      }
      states_[i].is_retried = true;
      is_map_old_ = true;
      redirected_.emplace_back(i, lane.taken.node());
    }
    return false;
  }

  [[nodiscard]] Status take_replies(Lane& lane) {
    Connection& connection = lane.taken.connection();
    while (!lane.asked.empty()) {
      const std::size_t i = lane.asked.front();
      if (states_[i].is_asking) {
        const auto allowed = connection.next_reply(lane.asking.expected);
        if (!allowed) return propagate(allowed);
        if (!*allowed) return {};
        states_[i].is_asking = false;
      }
      auto reply = connection.next_reply(requests_[i].command.expected);
      if (!reply) return propagate(reply);
      if (!*reply) return {};
      // What it was connected to as a master has become a replica: a new connection finds the new master, if any does.
      if ((*reply)->type == REDIS_REPLY_ERROR && text_of(**reply).starts_with("READONLY") && !states_[i].is_retried)
        return server_error(connection.address(), text_of(**reply));
      lane.asked.pop_front();
      lane.bytes -= bytes_of(requests_[i].command);
      lane.taken.set_clean(lane.asked.empty());
      if ((*reply)->type != REDIS_REPLY_ERROR) {
        requests_[i].reply = std::move(*reply);
        end(i, {});
      } else {
        go_on(i, text_of(**reply), lane.taken.node());
      }
    }
    return {};
  }

  /// What an error asks for.
  void go_on(std::size_t i, std::string_view said, const std::shared_ptr<Node>& from) {
    State& state = states_[i];
    const bool has_moved = said.starts_with("MOVED "), is_asked = said.starts_with("ASK ");
    if ((has_moved || is_asked) && ++state.redirections <= most_redirections && !requests_[i].node) {
      auto to = nodes_.redirected(said, from->address());
      if (!to) return end(i, propagate(to));
      if (has_moved) {
        nodes_.move_slot(requests_[i].slot, *to);
        is_map_old_ = true;
      }
      state.is_asking = is_asked;
      redirected_.emplace_back(i, std::move(*to));
      return;
    }
    // A script that needs keys of a slot of which some have moved already says the second.
    if (said.starts_with("TRYAGAIN") || said.find("non local key") != std::string_view::npos) {
      const TimePoint now = SteadyClock{}.now();
      if (state.first_pause == TimePoint{}) state.first_pause = now;
      if (now - state.first_pause < options_.request_timeout) {
        paused_.push_back({now + pause, i});
        return;
      }
    }
    end(i, server_error(from->address(), said, keys_of(requests_[i].command)));
  }

  /// Once in an exchange: the nodes that are named meanwhile are where requests are sent.
  void refresh_map() {
    if (!is_map_old_ || is_map_refreshed_) return;
    is_map_refreshed_ = true;
    give_back();
    nodes_.refresh();
  }

  Nodes& nodes_;
  const RedisStoreOptions& options_;
  std::span<Request> requests_;
  const RequestLimits& limits_;
  const RequestEnd& ended_;
  StopEvent stop_;
  std::vector<State> states_;
  std::size_t open_ = 0;
  std::map<std::shared_ptr<Node>, std::deque<std::size_t>> queues_;
  std::vector<std::pair<std::size_t, std::shared_ptr<Node>>> redirected_;  ///< to be queued
  std::vector<Paused> paused_;
  std::list<Lane> lanes_;
  bool is_map_old_ = false, is_map_refreshed_ = false;
};

}  // namespace

void exchange(Nodes& nodes, const RedisStoreOptions& options, std::span<Request> requests, const RequestLimits& limits,
              const RequestEnd& ended) {
  if (!requests.empty()) Exchange(nodes, options, requests, limits, ended).run();
}

}  // namespace krul::redis
