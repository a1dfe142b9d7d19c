#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <limits>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/simulate/host_memory.hpp"
#include "krul/simulate/job.hpp"

namespace krul::simulate {

/// The replay as it goes on, event by event.
///
/// A turn arrives when the trace says so and the turn before has ended. First come, first served: it is admitted when
/// device memory has room for all of its tokens, and its reads queue for the link at once. The compute runs whole
/// prefills in the same order, each so late that it need not wait within, and decode steps of all running requests in
/// between. What ends leaves the device; saving it takes no time (the link's other direction).
class ServerReplay {
 public:
  ServerReplay(std::span<const Job> jobs, const Server& server)
      : jobs_(jobs), server_(server), host_(server.host_bytes), asked_s_(jobs.size()) {
    result_.wait_s.assign(jobs.size(), std::numeric_limits<double>::quiet_NaN());
    result_.ended_s = result_.wait_s;
  }

  [[nodiscard]] Replay run() {
    for (advance(0); next_ < jobs_.size() || !admitted_.empty() || !running_.empty(); admit(now_)) {
      if (!admitted_.empty() && admitted_.front().ready_s <= now_) {
        prefill();
      } else if (!running_.empty()) {
        decode();
      } else {
        // Nothing to compute: on to the next arrival or the end of a read.
        constexpr double never = std::numeric_limits<double>::infinity();
        advance(std::min(next_ < jobs_.size() ? jobs_[next_].at_s : never,
                         admitted_.empty() ? never : admitted_.front().ready_s));
      }
    }
    return std::move(result_);
  }

 private:
  struct Admitted {
    std::size_t job;
    double cores_s;
    double ready_s;  ///< from here on the compute would not wait for the link
  };
  struct Running {
    std::size_t job, left;
  };

  /// Lets time pass, and arrive what arrives meanwhile.
  void advance(double until_s) {
    now_ = until_s;
    for (; next_ < jobs_.size() && jobs_[next_].at_s <= now_; ++next_) {
      if (static_cast<double>(jobs_[next_].tokens) > server_.device_tokens) continue;  // refused
      const auto [turn, first] = later_turns_.try_emplace(jobs_[next_].conversation);
      if (first) {
        queue(next_, jobs_[next_].at_s);
        admit(jobs_[next_].at_s);
      } else {
        turn->second.push_back(next_);
      }
    }
  }

  void queue(std::size_t job, double asked_s) {
    asked_s_[job] = asked_s;
    queue_.push_back(job);
  }

  void admit(double at_s) {
    for (; !queue_.empty(); queue_.pop_front()) {
      const Job& job = jobs_[queue_.front()];
      if (used_tokens_ + static_cast<double>(job.tokens) > server_.device_tokens) return;
      used_tokens_ += static_cast<double>(job.tokens);
      const bool there = job.has_history && (job.saved || host_.contains(job.conversation));
      if (job.has_history) ++(there ? result_.restored : result_.lost);
      const PrefillTimes& times = there ? job.restored : job.recomputed;
      double begin_s = at_s;
      if (times.link_s > 0) {
        begin_s = std::max(at_s, link_free_s_);
        link_free_s_ = begin_s + times.link_s;
        result_.link_s += times.link_s;
      }
      admitted_.push_back({queue_.front(), times.cores_s, begin_s + times.first_token_s - times.cores_s});
    }
  }

  void prefill() {
    const Admitted head = admitted_.front();
    admitted_.pop_front();
    compute(head.cores_s);
    result_.wait_s[head.job] = now_ - asked_s_[head.job];
    if (jobs_[head.job].output > 1) {
      running_.push_back({head.job, jobs_[head.job].output - 1});
      running_tokens_ += static_cast<double>(jobs_[head.job].tokens);
    } else {
      end(head.job);
    }
  }

  void decode() {
    compute(server_.decode_step_s + static_cast<double>(running_.size()) * server_.decode_row_s +
            running_tokens_ * server_.decode_token_s);
    std::erase_if(running_, [&](Running& request) {
      if (--request.left > 0) return false;
      running_tokens_ -= static_cast<double>(jobs_[request.job].tokens);
      end(request.job);
      return true;
    });
  }

  void compute(double seconds) {
    advance(now_ + seconds);
    result_.compute_s += seconds;
  }

  void end(std::size_t job) {
    used_tokens_ -= static_cast<double>(jobs_[job].tokens);
    result_.ended_s[job] = now_;
    host_.insert(jobs_[job].conversation, jobs_[job].stored_bytes);
    const auto later = later_turns_.find(jobs_[job].conversation);
    if (later->second.empty()) {
      later_turns_.erase(later);
    } else {
      queue(later->second.front(), now_);
      later->second.pop_front();
    }
  }

  std::span<const Job> jobs_;
  Server server_;
  HostMemory host_;
  Replay result_;
  std::vector<double> asked_s_;    // [jobs]
  std::deque<std::size_t> queue_;  // not admitted
  std::deque<Admitted> admitted_;
  std::vector<Running> running_;
  // Conversations with a turn that has not ended, and their turns that wait for that.
  std::unordered_map<std::size_t, std::deque<std::size_t>> later_turns_;
  std::size_t next_ = 0;
  double now_ = 0, link_free_s_ = 0, used_tokens_ = 0, running_tokens_ = 0;
};

/// Replays jobs on a server. Deterministic; no clock, no random numbers.
/// @param jobs  by arrival
/// @throws PreconditionError if jobs are not in order, generate nothing, or a prefill takes less than one of its parts
/// @complexity O(jobs + decode steps), O(running requests) a step
[[nodiscard]] inline Replay replay(std::span<const Job> jobs, const Server& server) {
  double before_s = 0;
  for (const Job& job : jobs) {
    expects(job.at_s >= before_s, "replay: jobs must come by time of arrival, from 0 on");
    before_s = job.at_s;
    expects(job.output > 0, "replay: a request generates at least one token");
    for (const PrefillTimes& times : {job.restored, job.recomputed})
      expects(times.link_s >= 0 && times.cores_s >= 0 && times.first_token_s >= std::max(times.link_s, times.cores_s),
              "replay: a prefill takes at least as long as each of its parts");
  }
  return ServerReplay(jobs, server).run();
}

}  // namespace krul::simulate
