#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "krul/eval/score_tokens.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct ScoreOptions {
  ModelOptions model;
  std::string text_file;
  std::string logits_file;
  bool raw = false;
};

void score(const ScoreOptions& options, const Tool& tool) {
  const std::string text = unwrap(read_text(options.text_file));
  if (text.empty())
    throw Failure({ErrorCode::invalid_argument, options.text_file + " is empty: there is nothing to score"});
  auto model = options.model.load(tool);
  std::vector<Token> tokens;
  if (options.raw) {
    tokens = encode_raw(model, text);
    if (const auto end = model.tokenizer.text_end()) tokens.push_back(*end);
  } else {
    const Message message{"user", text};
    tokens = encode_messages(model, std::span(&message, 1), false);
  }
  const std::size_t context = model.backend.geometry().context;
  if (tokens.empty()) throw Failure({ErrorCode::invalid_argument, options.text_file + " has no tokens"});
  if (tokens.size() > context)
    throw Failure({ErrorCode::too_large, "the text has " + std::to_string(tokens.size()) +
                                             " tokens, the model's context only " + std::to_string(context) +
                                             "; shorten it"});
  std::optional<OutputFile> logits_out;
  if (!options.logits_file.empty()) logits_out = unwrap(OutputFile::open(options.logits_file));

  const auto log_probabilities =
      eval::score_tokens(model.backend, tokens, [&](std::span<const float> rows, std::size_t scored) {
        if (logits_out) logits_out->write({reinterpret_cast<const char*>(rows.data()), rows.size_bytes()});
        tool.progress("scored " + std::to_string(scored) + " of " + std::to_string(tokens.size()) + " tokens");
      });
  tool.progress("");

  double sum = 0;
  for (const double value : log_probabilities) sum -= value;
  const double nll = sum / static_cast<double>(log_probabilities.size());
  if (tool.json) {
    Json values = Json::array({nullptr});
    for (const double value : log_probabilities) values.push_back(value);
    tool.print({{"tokens", tokens},
                {"logprobs", values},
                {"nll", log_probabilities.empty() ? Json() : Json(nll)},
                {"run", describe_run(model)}});
  } else if (log_probabilities.empty()) {
    std::printf("1 token, and none after it: there is nothing to score\n");
  } else {
    std::printf("%zu tokens, mean negative log-likelihood %.4f nats (perplexity %.2f)\n", tokens.size(), nll,
                std::exp(nll));
  }
  if (logits_out) unwrap(logits_out->close());
}

}  // namespace

void add_score(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<ScoreOptions>();
  auto* verb = program.add_subcommand("score", "log-probability of each token of a text, given those before it");
  options->model.add_to(*verb);
  verb->add_option("--text", options->text_file, "file to score")->required();
  verb->add_option("--logits", options->logits_file, "write all logits here: f32, [tokens, vocabulary]");
  verb->add_flag("--raw", options->raw, "score the text as it is, without the chat format")
      ->excludes("--chat-template");
  verb->callback([options, &tool] { score(*options, tool); });
}

}  // namespace krul::cli
