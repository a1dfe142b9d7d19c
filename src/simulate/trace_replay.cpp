#include "krul/simulate/trace_replay.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "krul/simulate/server.hpp"

namespace krul::simulate {

Server server_of(const Scene& scene, const ServerMemory& memory) {
  const LayerCosts& layer = scene.costs.layer;
  const auto layers = static_cast<double>(scene.shape.layers);
  return {.device_tokens = memory.device_tokens,
          .host_bytes = memory.host_bytes,
          .decode_step_s = layers * layer.call_s + scene.costs.pass_s,
          .decode_row_s = layers * (layer.project_row_s + layer.finish_row_s),
          .decode_token_s = layers * (layer.attend_pair_s + layer.attend_key_s)};
}

std::vector<Job> jobs_of(std::span<const Arrival> arrivals, const Scene& base, const SimulatedStrategy& strategy) {
  std::map<std::size_t, double> token_bytes;  // by thousands of tokens
  const auto stored_bytes = [&](std::size_t tokens) {
    const std::size_t thousands = (tokens + 999) / 1000;
    const auto [known, first] = token_bytes.try_emplace(thousands);
    if (first)
      known->second = strategy.simulate(at_length(base, thousands * 1000, 128)).stored_bytes /
                      static_cast<double>(thousands * 1000);
    return known->second * static_cast<double>(tokens);
  };
  std::vector<Job> jobs;
  for (const Arrival& arrival : arrivals) {
    const Scene whole = at_length(base, 0, arrival.history + arrival.prompt);
    const double recompute_s = pass_cores_s(whole, 0, whole.prompt) + whole.costs.pass_s;
    Job job{.at_s = arrival.at_s,
            .conversation = arrival.conversation,
            .has_history = arrival.history > 0,
            .saved = arrival.saved,
            .restored = {},
            .recomputed = {0, recompute_s, recompute_s},
            .tokens = arrival.tokens(),
            .output = arrival.output,
            .stored_bytes = stored_bytes(arrival.tokens())};
    if (job.has_history) {
      const Prediction restore = strategy.simulate(at_length(base, arrival.history, arrival.prompt)).predicted;
      job.restored = {restore.busy[Resource::link], restore.busy[Resource::cores], restore.first_token_s};
    }
    jobs.push_back(job);
  }
  return jobs;
}

std::vector<Job> at_load(std::span<const Job> jobs, double load) {
  std::vector<Job> chosen;
  for (Job job : jobs) {
    const double place = static_cast<double>(job.conversation) * std::numbers::phi;
    if (place - std::floor(place) >= load) continue;
    if (load > 1) job.at_s /= load;
    chosen.push_back(job);
  }
  return chosen;
}

Result<Served> serve(std::span<const Job> jobs, const Server& server) {
  expects(!jobs.empty(), "serve: no jobs");
  const Replay replayed = replay(jobs, server);
  Served served;
  served.restored = replayed.restored;
  served.lost = replayed.lost;
  const double window_s = jobs.back().at_s;
  double end_s = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (std::isnan(replayed.ended_s[i])) {
      ++served.refused;
      continue;
    }
    served.wait_s.push_back(replayed.wait_s[i]);
    if (jobs[i].has_history) served.returning_wait_s.push_back(replayed.wait_s[i]);
    if (replayed.ended_s[i] <= window_s) ++done;
    end_s = std::max(end_s, replayed.ended_s[i]);
  }
  if (served.wait_s.empty()) return fail(ErrorCode::too_large, "no request of the trace fits into device memory");
  if (window_s > 0) served.requests_per_s = static_cast<double>(done) / window_s;
  served.compute_share = replayed.compute_s / end_s;
  served.link_share = replayed.link_s / end_s;
  return served;
}

}  // namespace krul::simulate
