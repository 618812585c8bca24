"""The methods of explanation by name: one entry each."""

from mlcli.methods.explanation.attribution import CONTRIBUTION, GRADIENT, REGION, Method
from mlcli.methods.explanation.deconvnet import deconvnet
from mlcli.methods.explanation.grad_cam import grad_cam
from mlcli.methods.explanation.guided_backprop import guided_backprop
from mlcli.methods.explanation.guided_grad_cam import guided_grad_cam
from mlcli.methods.explanation.integrated_gradients import integrated_gradients
from mlcli.methods.explanation.layer_cam import layer_cam
from mlcli.methods.explanation.occlusion import occlusion
from mlcli.methods.explanation.rise import rise
from mlcli.methods.explanation.smoothgrad import smoothgrad

METHODS = {
    "grad-cam": Method(grad_cam, REGION, of_layer=True),
    "layer-cam": Method(layer_cam, REGION, of_layer=True),
    "integrated-gradients": Method(integrated_gradients, CONTRIBUTION),
    "smoothgrad": Method(smoothgrad, GRADIENT),
    "occlusion": Method(occlusion, CONTRIBUTION),
    "rise": Method(rise, REGION),
    "deconvnet": Method(deconvnet, GRADIENT),
    "guided-backprop": Method(guided_backprop, GRADIENT),
    "guided-grad-cam": Method(guided_grad_cam, GRADIENT, of_layer=True),
}
