#include <cstdio>
#include <memory>
#include <optional>

#include "bench.hpp"
#include "interruption.hpp"
#include "krul/model/generate.hpp"
#include "reply_options.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  ReplyOptions reply;
  std::string prompt;
  bool raw = false;
};

void generate(const GenerateOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  std::vector<Token> prompt;
  if (options.raw) {
    prompt = encode_raw(model, options.prompt);
  } else {
    const Message message{"user", options.prompt};
    prompt = encode_messages(model, std::span(&message, 1), true);
  }
  if (prompt.empty()) throw Failure({ErrorCode::invalid_argument, "the prompt has no tokens"});
  expect_fits(model, prompt.size());
  const std::size_t context = model.backend.geometry().context;
  std::optional<Interruption> interruption;  // from the first token on: until then a signal ends the program at once
  ReplyWriter writer(model.tokenizer, tool);
  const ReplySteps steps{.ends = [&](Token token) { return model.tokenizer.ends_turn(token); },
                         .next = {},
                         .show = [&](Token token) { return writer.show(token); },
                         .interrupted =
                             [&] {
                               if (!interruption) interruption.emplace();
                               return interruption->signal() != 0;
                             }};
  const auto reply =
      unwrap(krul::generate(model.backend, prompt, {options.reply.sampling, options.reply.max_tokens}, steps));
  writer.end();
  if (tool.json)
    tool.print({{"tokens", reply.tokens},
                {"text", model.tokenizer.decode(reply.tokens)},
                {"prompt_tokens", prompt.size()},
                {"ended", name(reply.ended)},
                {"run", describe_run(model)}});
  else if (reply.ended == Ended::context)
    tool.say("(the context of " + std::to_string(context) + " tokens is full: the text was cut there)");
  if (interruption->signal() != 0) throw Told::interrupted(interruption->signal());
}

}  // namespace

void add_generate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<GenerateOptions>();
  auto* verb = program.add_subcommand("generate", "continue a prompt");
  options->model.add_to(*verb);
  options->model.add_context_to(*verb);
  options->reply.add_to(*verb);
  verb->add_option("--prompt", options->prompt, "text to continue or to answer")->required();
  verb->add_flag("--raw", options->raw, "continue the text as it is, without the chat format")
      ->excludes("--chat-template");
  verb->callback([options, &tool] { generate(*options, tool); });
}

}  // namespace krul::cli
